/* SPDX-License-Identifier: Apache-2.0
 * C++17 on top of the C interface, header only: handles that free themselves, tensor views, exceptions.
 *
 *     dd::context context("device=cpu");
 *     dd::distiller kd(context, "prior=none feature-mask=none");
 *     kd.bind("student.logits", dd::view(logits, {6, 2, 300, 80}));   // logits: std::vector<float>, or a pointer
 *     kd.bind("student.logits.grad", dd::view(grad, {6, 2, 300, 80}));
 *     double total = kd.step();
 *
 * Handles can be moved, not copied; one thread at a time uses a handle. Bound memory stays the caller's and must outlive its
 * binding. An exception thrown inside a callback comes out of the library call that ran the callback. */
#ifndef DETRDISTILL_DETRDISTILL_HPP
#define DETRDISTILL_DETRDISTILL_HPP

#include <detrdistill/detrdistill.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace dd {

/* A failed call: what() is the library's sentence. image, stage, query and step are -1 where they do not apply. */
class error : public std::runtime_error {
  public:
    /* The last error of this thread. */
    explicit error(dd_status status)
        : std::runtime_error(dd_error_message()), status_(status),
          subject_(dd_error_subject()), place_{dd_error_place(DD_PLACE_IMAGE), dd_error_place(DD_PLACE_STAGE),
                                               dd_error_place(DD_PLACE_QUERY), dd_error_place(DD_PLACE_STEP)}
    {
    }

    dd_status status() const noexcept
    {
        return status_;
    }
    const char *name() const noexcept
    {
        return dd_status_name(status_);
    }
    const std::string &subject() const noexcept
    {
        return subject_;
    } /* the tensor or option it is about, or "" */
    std::int64_t image() const noexcept
    {
        return place_[0];
    }
    std::int64_t stage() const noexcept
    {
        return place_[1];
    }
    std::int64_t query() const noexcept
    {
        return place_[2];
    }
    std::int64_t step() const noexcept
    {
        return place_[3];
    }

  private:
    dd_status status_;
    std::string subject_;
    std::array<std::int64_t, 4> place_;
};

namespace detail {

/* What a callback on this thread threw; C code cannot be unwound, so it waits until the library call returns. */
inline std::exception_ptr &pending()
{
    thread_local std::exception_ptr exception;
    return exception;
}

template <class Function> bool guarded(Function &&function) noexcept
{
    try {
        function();
        return true;
    } catch (...) {
        if (!pending())
            pending() = std::current_exception();
        return false;
    }
}

template <class Handle, void (*free_handle)(Handle *)> struct freer {
    void operator()(Handle *handle) const noexcept
    {
        free_handle(handle);
    }
};
template <class Handle, void (*free_handle)(Handle *)> using owned = std::unique_ptr<Handle, freer<Handle, free_handle>>;

template <class T> constexpr std::int32_t dtype_of()
{
    using plain = std::remove_cv_t<T>;
    if constexpr (std::is_same_v<plain, float>)
        return DD_F32;
    else if constexpr (std::is_same_v<plain, double>)
        return DD_F64;
    else if constexpr (std::is_integral_v<plain> && std::is_signed_v<plain> && sizeof(plain) == 4)
        return DD_I32;
    else if constexpr (std::is_integral_v<plain> && std::is_signed_v<plain> && sizeof(plain) == 8)
        return DD_I64;
    else {
        static_assert(std::is_integral_v<plain> && sizeof(plain) == 1, "no dtype for this element type; use view_as");
        return DD_U8;
    }
}

} // namespace detail

/* Throws for a bad status, or what a callback threw meanwhile. */
inline void check(dd_status status)
{
    if (detail::pending())
        std::rethrow_exception(std::exchange(detail::pending(), nullptr));
    if (status != DD_OK)
        throw error(status);
}

/* Some elements of a row of memory that somebody else owns. */
template <class T> class values {
  public:
    values(T *first, std::size_t count) noexcept : first_(first), count_(count) {}
    T *begin() const noexcept
    {
        return first_;
    }
    T *end() const noexcept
    {
        return first_ + count_;
    }
    T *data() const noexcept
    {
        return first_;
    }
    std::size_t size() const noexcept
    {
        return count_;
    }
    T &operator[](std::size_t i) const noexcept
    {
        return first_[i];
    }

  private:
    T *first_;
    std::size_t count_;
};

/* A view of memory (dd_tensor). It owns nothing. */
class tensor {
  public:
    tensor() noexcept : view_{} {}
    explicit tensor(const dd_tensor &view) noexcept : view_(view) {}

    const dd_tensor *get() const noexcept
    {
        return &view_;
    }
    dd_tensor *get() noexcept
    {
        return &view_;
    }
    std::int32_t dtype() const noexcept
    {
        return view_.dtype;
    }
    std::size_t dims() const noexcept
    {
        return static_cast<std::size_t>(view_.ndim);
    }
    std::int64_t shape(std::size_t dimension) const
    {
        return view_.shape[in_range(dimension)];
    }
    std::int64_t stride(std::size_t dimension) const
    {
        return view_.stride[in_range(dimension)];
    }
    bool on_cpu() const noexcept
    {
        return view_.device_type == DD_DEVICE_CPU;
    }

    std::size_t size() const noexcept
    {
        std::size_t elements = 1;
        for (std::int32_t i = 0; i < view_.ndim; i++)
            elements *= static_cast<std::size_t>(view_.shape[i]);
        return elements;
    }

    /* All elements of a contiguous host tensor, in C order. std::invalid_argument if it is not one of T's. */
    template <class T> values<T> as() const
    {
        if (view_.dtype != detail::dtype_of<T>())
            throw std::invalid_argument(std::string("the tensor's elements are ") + dd_dtype_name(view_.dtype));
        if (!on_cpu() || !contiguous())
            throw std::invalid_argument("the tensor is not contiguous host memory");
        if (!std::is_const_v<T> && (view_.flags & DD_TENSOR_READONLY))
            throw std::invalid_argument("the tensor is read-only");
        return values<T>(static_cast<T *>(view_.data), size());
    }

    bool contiguous() const noexcept
    {
        std::int64_t step = 1;
        for (std::int32_t i = view_.ndim; i-- > 0; step *= view_.shape[i])
            if (view_.shape[i] > 1 && view_.stride[i] != step)
                return size() == 0;
        return true;
    }

  private:
    std::size_t in_range(std::size_t dimension) const
    {
        if (dimension >= dims())
            throw std::out_of_range("dimension of a tensor");
        return dimension;
    }

    dd_tensor view_;
};

using shape_list = std::initializer_list<std::int64_t>;

/* Memory with an element type given by number: DD_BF16, or memory on a device. `stride` empty: C order. */
inline tensor view_as(std::int32_t dtype, void *data, shape_list shape, shape_list stride = {},
                      std::int32_t device_type = DD_DEVICE_CPU, std::int32_t device_index = 0, std::uint32_t flags = 0)
{
    if (stride.size() != 0 && stride.size() != shape.size())
        throw std::invalid_argument("shape and stride have different lengths");
    tensor made;
    check(dd_tensor_init(made.get(), data, dtype, static_cast<std::int32_t>(shape.size()), shape.begin(),
                         stride.size() != 0 ? stride.begin() : nullptr, device_type, device_index, flags));
    return made;
}

/* Host memory; a pointer to const makes a read-only view. */
template <class T> tensor view(T *data, shape_list shape, shape_list stride = {})
{
    return view_as(detail::dtype_of<T>(), const_cast<std::remove_const_t<T> *>(data), shape, stride, DD_DEVICE_CPU, 0,
                   std::is_const_v<T> ? DD_TENSOR_READONLY : 0);
}

namespace detail {

/* Container: std::vector, std::array, std::span.. with exactly the elements of `shape`. */
template <class Container> tensor view_container(Container &memory, shape_list shape)
{
    tensor made = view(memory.data(), shape);
    if (made.size() != memory.size())
        throw std::invalid_argument("the container has " + std::to_string(memory.size()) + " elements and the shape " +
                                    std::to_string(made.size()));
    return made;
}

} // namespace detail

template <class Container, class = decltype(std::declval<Container &>().data())>
tensor view(Container &memory, shape_list shape)
{
    return detail::view_container(memory, shape);
}

struct memory_use {
    std::int64_t host_bytes, host_peak, device_bytes, device_peak, allocations;
};

/* One device with its memory, threads, seed and log. Threads may share it. */
class context {
  public:
    using log_function = std::function<void(std::int32_t level, std::string_view line)>;

    explicit context(const std::string &options = "") : log_(std::make_shared<log_function>())
    {
        dd_context *made = nullptr;
        check(dd_context_create(&made, options.c_str()));
        handle_.reset(made);
    }

    dd_context *get() const noexcept
    {
        return handle_.get();
    }

    std::string describe() const
    {
        const char *text = nullptr;
        check(dd_context_describe(get(), &text));
        return text;
    }

    memory_use memory() const
    {
        memory_use use{};
        check(dd_context_memory(get(), &use.host_bytes, &use.host_peak, &use.device_bytes, &use.device_peak, &use.allocations));
        return use;
    }

    std::string kernel(const std::string &op, std::int32_t dtype = DD_F32) const
    {
        const char *name = nullptr;
        check(dd_context_kernel(get(), op.c_str(), dtype, &name));
        return name;
    }

    /* Any thread, also from a signal handler. */
    void cancel(bool cancelled = true) const
    {
        check(dd_context_cancel(get(), cancelled ? 1 : 0));
    }

    /* Lines up to `level` go to `log`; an empty function: nowhere. Not while another thread uses the context. */
    void set_log(log_function log, std::int32_t level = DD_LOG_INFO)
    {
        check(dd_context_set_log(get(), nullptr, nullptr, level));
        *log_ = std::move(log);
        if (*log_)
            check(dd_context_set_log(get(), receive, log_.get(), level));
    }

    /* What the library may still call while any handle on this context lives. */
    std::shared_ptr<const void> keepalive() const noexcept
    {
        return log_;
    }

  private:
    static void receive(void *user, std::int32_t level, const char *line)
    {
        detail::guarded([&] { (*static_cast<log_function *>(user))(level, line); });
    }

    std::shared_ptr<log_function> log_; /* before the handle: it goes after it */
    detail::owned<dd_context, dd_context_free> handle_;
};

struct assignment {
    std::vector<std::int32_t> row_to_col; /* -1: none (more rows than columns) */
    double total = 0;
};

/* Minimum-cost assignment of min(rows, cols) pairs; element (i, j) lies at cost[i*row_stride + j*col_stride]. */
template <class Real>
assignment assign(const Real *cost, std::int64_t rows, std::int64_t cols, std::int64_t row_stride, std::int64_t col_stride = 1)
{
    static_assert(std::is_same_v<Real, float> || std::is_same_v<Real, double>, "costs are float or double");
    assignment found;
    found.row_to_col.resize(rows > 0 ? static_cast<std::size_t>(rows) : 0);
    std::int32_t none = -1; /* a row of an empty vector has no address */
    std::int32_t *out = rows > 0 ? found.row_to_col.data() : &none;
    if constexpr (std::is_same_v<Real, float>)
        check(dd_assign_f32(cost, rows, cols, row_stride, col_stride, out, &found.total));
    else
        check(dd_assign_f64(cost, rows, cols, row_stride, col_stride, out, &found.total));
    return found;
}

template <class Real> assignment assign(const std::vector<Real> &cost, std::int64_t rows, std::int64_t cols)
{
    if (rows < 0 || cols < 0 || cost.size() != static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols))
        throw std::invalid_argument("cost has not rows x cols elements");
    return assign(cost.data(), rows, cols, cols);
}

/* Matches predictions with objects or with a teacher's predictions; names and options as dd_matcher_bind and _create. */
class matcher {
  public:
    struct block {
        values<const std::int32_t> match; /* object or teacher query of each student query, or -1; until the next run */
        double cost;
    };

    explicit matcher(const context &on, const std::string &options = "") : keepalive_(on.keepalive())
    {
        dd_matcher *made = nullptr;
        check(dd_matcher_create(&made, on.get(), options.c_str()));
        handle_.reset(made);
    }

    dd_matcher *get() const noexcept
    {
        return handle_.get();
    }
    void bind(const std::string &name, const tensor &memory)
    {
        check(dd_matcher_bind(get(), name.c_str(), memory.get()));
    }
    void unbind(const std::string &name)
    {
        check(dd_matcher_bind(get(), name.c_str(), nullptr));
    }
    void run()
    {
        check(dd_matcher_run(get()));
    }

    /* (pairs of stages, images) */
    std::pair<std::int32_t, std::int32_t> count() const
    {
        std::pair<std::int32_t, std::int32_t> found{0, 0};
        check(dd_matcher_count(get(), &found.first, &found.second));
        return found;
    }

    block result(std::int32_t stage, std::int32_t image)
    {
        const std::int32_t *match = nullptr;
        std::int64_t count = 0;
        double cost = 0;
        check(dd_matcher_get(get(), stage, image, &match, &count, &cost));
        return {values<const std::int32_t>(match, static_cast<std::size_t>(count)), cost};
    }

  private:
    std::shared_ptr<const void> keepalive_;
    detail::owned<dd_matcher, dd_matcher_free> handle_;
};

/* One distillation step on bound tensors; names, options and results as dd_distiller_bind, _create and _result. */
class distiller {
  public:
    using mean_function = std::function<void(values<double> local)>;     /* replaces them by their mean over all processes */
    using trace_function = std::function<bool(std::string_view object)>; /* a JSON object; false ends the trace */
    struct term {
        std::string name;
        double value;
    };
    struct parameter {
        std::string name;
        tensor value, grad; /* the distiller's own memory, for its whole life */
    };

    explicit distiller(const context &on, const std::string &options = "")
        : keepalive_(on.keepalive()), callbacks_(std::make_unique<callbacks>())
    {
        dd_distiller *made = nullptr;
        check(dd_distiller_create(&made, on.get(), options.c_str()));
        handle_.reset(made);
    }

    dd_distiller *get() const noexcept
    {
        return handle_.get();
    }
    void bind(const std::string &name, const tensor &memory)
    {
        check(dd_distiller_bind(get(), name.c_str(), memory.get()));
    }
    void unbind(const std::string &name)
    {
        check(dd_distiller_bind(get(), name.c_str(), nullptr));
    }

    /* The weighted sum of the terms. Gradients are in the tensors bound as NAME.grad. */
    double step()
    {
        double total = 0;
        check(dd_distiller_step(get(), &total));
        return total;
    }

    std::vector<term> terms() const
    {
        std::int32_t count = 0;
        check(dd_distiller_term_count(get(), &count));
        std::vector<term> found;
        found.reserve(static_cast<std::size_t>(count));
        for (std::int32_t i = 0; i < count; i++) {
            const char *name = nullptr;
            double value = 0;
            check(dd_distiller_term_at(get(), i, &name, &value));
            found.push_back({name, value});
        }
        return found;
    }

    double term_value(const std::string &name) const
    {
        double value = 0;
        check(dd_distiller_term_get(get(), name.c_str(), &value));
        return value;
    }

    /* Borrowed until the next step. */
    tensor result(const std::string &name)
    {
        tensor found;
        check(dd_distiller_result(get(), name.c_str(), found.get()));
        return found;
    }

    void set_weight(const std::string &module, double weight)
    {
        check(dd_distiller_set_weight(get(), module.c_str(), weight));
    }

    double weight(const std::string &module) const
    {
        double found = 0;
        check(dd_distiller_get_weight(get(), module.c_str(), &found));
        return found;
    }

    /* A cudaStream_t. */
    void set_stream(void *stream)
    {
        check(dd_distiller_set_stream(get(), stream));
    }

    /* An empty function: one process. */
    void set_mean(mean_function mean)
    {
        check(dd_distiller_set_mean(get(), nullptr, nullptr));
        callbacks_->mean = std::move(mean);
        if (callbacks_->mean)
            check(dd_distiller_set_mean(get(), average, callbacks_.get()));
    }

    /* An empty function: off. */
    void set_trace(trace_function trace)
    {
        check(dd_distiller_set_trace(get(), nullptr, nullptr));
        callbacks_->trace = std::move(trace);
        if (callbacks_->trace)
            check(dd_distiller_set_trace(get(), receive, callbacks_.get()));
    }

    void prepare()
    {
        check(dd_distiller_prepare(get()));
    }

    std::vector<parameter> parameters()
    {
        std::int32_t count = 0;
        check(dd_distiller_parameter_count(get(), &count));
        std::vector<parameter> found;
        for (std::int32_t i = 0; i < count; i++) {
            const char *name = nullptr;
            tensor value, grad;
            check(dd_distiller_parameter_at(get(), i, &name, value.get(), grad.get()));
            found.push_back({name, value, grad});
        }
        return found;
    }

  private:
    struct callbacks {
        mean_function mean;
        trace_function trace;
    };

    static std::int32_t average(void *user, double *local, std::int32_t count)
    {
        const values<double> all(local, static_cast<std::size_t>(count));
        return detail::guarded([&] { static_cast<callbacks *>(user)->mean(all); }) ? 0 : 1;
    }

    static std::int32_t receive(void *user, const char *object, std::int64_t bytes)
    {
        bool more = false;
        detail::guarded(
            [&] { more = static_cast<callbacks *>(user)->trace(std::string_view(object, static_cast<std::size_t>(bytes))); });
        return more ? 0 : 1;
    }

    std::shared_ptr<const void> keepalive_;
    std::unique_ptr<callbacks> callbacks_; /* on the heap: the library keeps its address when the distiller is moved */
    detail::owned<dd_distiller, dd_distiller_free> handle_;
};

/* Named tensors of a safetensors file. Views live as long as the object. */
class tensorfile {
  public:
    /* An empty set, to be filled and saved. */
    tensorfile()
    {
        dd_tensorfile *made = nullptr;
        check(dd_tensorfile_create(&made));
        handle_.reset(made);
    }

    explicit tensorfile(const std::string &path)
    {
        dd_tensorfile *made = nullptr;
        check(dd_tensorfile_open(&made, path.c_str()));
        handle_.reset(made);
    }

    dd_tensorfile *get() const noexcept
    {
        return handle_.get();
    }

    std::int32_t count() const
    {
        std::int32_t found = 0;
        check(dd_tensorfile_count(get(), &found));
        return found;
    }

    std::pair<std::string, tensor> at(std::int32_t index) const
    {
        const char *name = nullptr;
        tensor view;
        check(dd_tensorfile_at(get(), index, &name, view.get()));
        return {name, view};
    }

    tensor operator[](const std::string &name) const
    {
        tensor view;
        check(dd_tensorfile_get(get(), name.c_str(), view.get()));
        return view;
    }

    std::string metadata(const std::string &key) const
    {
        const char *value = nullptr;
        check(dd_tensorfile_metadata(get(), key.c_str(), &value));
        return value;
    }

    void set(const std::string &name, const tensor &copied)
    {
        check(dd_tensorfile_set(get(), name.c_str(), copied.get()));
    }

    void set_metadata(const std::string &key, const std::string &value)
    {
        check(dd_tensorfile_set_metadata(get(), key.c_str(), value.c_str()));
    }

    void save(const std::string &path) const
    {
        check(dd_tensorfile_save(get(), path.c_str()));
    }

  private:
    detail::owned<dd_tensorfile, dd_tensorfile_free> handle_;
};

/* A box (x, y, width, height) in pixels, the model's label, its score, and the query that found it. */
struct detection {
    std::array<double, 4> box;
    std::int64_t label;
    double score;
    std::int32_t query;
};

/* A detector: made from an architecture, or loaded. */
class model {
  public:
    static model create(const context &on, const std::string &options)
    {
        dd_model *made = nullptr;
        check(dd_model_create(&made, on.get(), options.c_str()));
        return model(made);
    }

    static model load(const context &on, const std::string &path, const std::string &options = "")
    {
        dd_model *made = nullptr;
        check(dd_model_load(&made, on.get(), path.c_str(), options.c_str()));
        return model(made);
    }

    dd_model *get() const noexcept
    {
        return handle_.get();
    }

    void save(const std::string &folder) const
    {
        check(dd_model_save(get(), folder.c_str()));
    }

    /* A checkpoint of another program: "names=official". */
    void export_to(const std::string &path, const std::string &options) const
    {
        check(dd_model_export(get(), path.c_str(), options.c_str()));
    }

    std::vector<std::string> classes() const
    {
        std::int32_t count = 0;
        std::vector<std::string> names;
        check(dd_model_class_count(get(), &count));
        for (std::int32_t label = 0; label < count; label++) {
            const char *name = nullptr;
            check(dd_model_class_at(get(), label, &name));
            names.emplace_back(name);
        }
        return names;
    }

    void set_classes(const std::vector<std::string> &names)
    {
        std::int32_t label = 0;
        for (const std::string &name : names)
            check(dd_model_set_class(get(), label++, name.c_str()));
    }

    void forward(const tensor &pixels, const tensor &sizes)
    {
        check(dd_model_forward(get(), pixels.get(), sizes.get()));
    }

    /* A view of the last forward pass, until the next one. */
    tensor operator[](const std::string &name) const
    {
        tensor view;
        check(dd_model_tensor(get(), name.c_str(), view.get()));
        return view;
    }

    std::vector<detection> detections(std::int32_t image, std::int32_t width, std::int32_t height, std::int32_t most = 100,
                                      double least_score = 0) const
    {
        std::int32_t count = 0;
        const double *boxes = nullptr, *scores = nullptr;
        const std::int64_t *labels = nullptr;
        const std::int32_t *queries = nullptr;
        check(dd_model_detections(get(), image, width, height, most, least_score, &count, &boxes, &labels, &scores, &queries));
        std::vector<detection> found;
        for (std::int32_t i = 0; i < count; i++, boxes += 4)
            found.push_back({{boxes[0], boxes[1], boxes[2], boxes[3]}, labels[i], scores[i], queries[i]});
        return found;
    }

  private:
    explicit model(dd_model *made) : handle_(made) {}
    detail::owned<dd_model, dd_model_free> handle_;
};

/* A split of a data set. */
class dataset {
  public:
    explicit dataset(const std::string &path, const std::string &options = "")
    {
        dd_dataset *made = nullptr;
        check(dd_dataset_open(&made, path.c_str(), options.c_str()));
        handle_.reset(made);
    }

    dd_dataset *get() const noexcept
    {
        return handle_.get();
    }

    std::int32_t size() const
    {
        std::int32_t count = 0;
        check(dd_dataset_image_count(get(), &count));
        return count;
    }

    std::vector<std::string> classes() const
    {
        std::int32_t count = 0;
        std::vector<std::string> names;
        check(dd_dataset_class_count(get(), &count));
        for (std::int32_t label = 0; label < count; label++) {
            const char *name = nullptr;
            check(dd_dataset_class_at(get(), label, nullptr, &name));
            names.emplace_back(name);
        }
        return names;
    }

  private:
    detail::owned<dd_dataset, dd_dataset_free> handle_;
};

/* Batches of a data set, decoded ahead. */
class loader {
  public:
    explicit loader(const dataset &data, const std::string &options = "")
    {
        dd_loader *made = nullptr;
        check(dd_loader_create(&made, data.get(), options.c_str()));
        handle_.reset(made);
    }

    /* Pictures of the next batch; 0 at the end of an epoch. */
    std::int32_t next()
    {
        std::int32_t images = 0;
        check(dd_loader_next(handle_.get(), &images));
        return images;
    }

    /* "pixels", "image.sizes", "gt.boxes", ..: until the next batch. */
    tensor operator[](const std::string &name) const
    {
        tensor view;
        check(dd_loader_tensor(handle_.get(), name.c_str(), view.get()));
        return view;
    }

  private:
    detail::owned<dd_loader, dd_loader_free> handle_;
};

/* A run. Student, teacher and data sets must stay until it is gone. */
class trainer {
  public:
    /* One event of a run and its values by name; true ends the run after this step. */
    using progress_function = std::function<bool(std::int32_t event, const std::vector<std::pair<std::string_view, double>> &)>;

    trainer(model &student, const model *teacher, const dataset &train, const dataset *validation, const std::string &folder,
            const std::string &options = "", const std::string &distiller = "")
        : progress_(std::make_unique<progress_function>())
    {
        dd_trainer *made = nullptr;
        check(dd_trainer_create(&made, student.get(), teacher ? teacher->get() : nullptr, train.get(),
                                validation ? validation->get() : nullptr, folder.empty() ? nullptr : folder.c_str(),
                                options.c_str(), distiller.c_str()));
        handle_.reset(made);
    }

    void on_progress(progress_function progress)
    {
        *progress_ = std::move(progress);
        check(dd_trainer_set_progress(handle_.get(), *progress_ ? receive : nullptr, progress_.get()));
    }

    double step()
    {
        double loss = 0;
        check(dd_trainer_step(handle_.get(), &loss));
        return loss;
    }

    /* Why it came back: DD_TRAIN_FINISHED, .. */
    std::int32_t run(std::int64_t epoch = 0)
    {
        std::int32_t why = 0;
        check(dd_trainer_run(handle_.get(), epoch, &why));
        return why;
    }

    void stop() const
    {
        check(dd_trainer_stop(handle_.get()));
    }

    double value(const std::string &name) const
    {
        double found = 0;
        check(dd_trainer_value_get(handle_.get(), name.c_str(), &found));
        return found;
    }

    void save_student(const std::string &folder) const
    {
        check(dd_trainer_export(handle_.get(), folder.c_str()));
    }

  private:
    static std::int32_t receive(void *user, std::int32_t event, const char *const *name, const double *value,
                                std::int32_t count)
    {
        bool stop = false;
        const bool good = detail::guarded([&] {
            std::vector<std::pair<std::string_view, double>> all;
            for (std::int32_t i = 0; i < count; i++)
                all.emplace_back(name[i], value[i]);
            stop = (*static_cast<progress_function *>(user))(event, all);
        });
        return stop || !good ? 1 : 0;
    }

    std::unique_ptr<progress_function> progress_; /* on the heap: the library keeps its address */
    detail::owned<dd_trainer, dd_trainer_free> handle_;
};

} // namespace dd

#endif
