/* SPDX-License-Identifier: Apache-2.0
 * The C++ header: results equal the C interface's, handles move and end in any order, exceptions pass through callbacks. */
#include <detrdistill/detrdistill.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <numeric>
#include <optional>
#include <random>

static int passed, failed;

static void expect(bool good, const char *what, int line)
{
    good ? passed++ : failed++;
    if (!good)
        std::printf("FAILED line %d: %s\n", line, what);
}
#define EXPECT(condition) expect(condition, #condition, __LINE__)

/* The exception of type Wanted that body() throws, or nothing. */
template <class Wanted, class Body> static std::optional<Wanted> thrown(Body &&body)
{
    try {
        body();
    } catch (const Wanted &caught) {
        return caught;
    }
    return std::nullopt;
}

template <class Wanted, class Body> static bool throws(Body &&body)
{
    return thrown<Wanted>(body).has_value();
}

template <class Body> static dd_status status_of(Body &&body)
{
    const auto error = thrown<dd::error>(body);
    return error ? error->status() : DD_OK;
}

static void bind_all(dd::distiller &kd, const dd::tensorfile &file)
{
    for (std::int32_t i = 0; i < file.count(); i++) {
        const auto [name, tensor] = file.at(i);
        kd.bind(name, tensor);
    }
}

static void steps(const dd::tensorfile &file)
{
    dd::distiller kd(dd::context("device=ref"), "family=deformable-detr");
    bind_all(kd, file);
    const dd::tensor logits = file["student.logits"];
    std::vector<float> grad(logits.size());
    kd.bind("student.logits.grad", dd::view(grad, {logits.shape(0), logits.shape(1), logits.shape(2), logits.shape(3)}));
    const double total = kd.step();
    EXPECT(std::fabs(total / std::stod(file.metadata("total")) - 1) < 1e-6);
    EXPECT(std::any_of(grad.begin(), grad.end(), [](float g) { return g != 0; }));
    EXPECT(kd.term_value("loss.total") == total);
    const auto terms = kd.terms();
    EXPECT(terms.size() > 20 && terms[0].name == "loss.total" && terms[0].value == total);

    const auto match = kd.result("match.det").as<const std::int32_t>();
    EXPECT(match.size() == 3 * 2 * 36);
    EXPECT(std::count_if(match.begin(), match.end(), [](std::int32_t object) { return object >= 0; }) == 3 * 10);
    EXPECT(throws<std::invalid_argument>([&] { kd.result("match.det").as<float>(); }));
    EXPECT(throws<std::invalid_argument>([&] { kd.result("match.det").as<std::int32_t>(); })); /* read-only */

    kd.set_weight("logits", 3);
    EXPECT(kd.weight("logits") == 3);
    EXPECT(std::fabs(kd.step() - total - 2 * kd.term_value("loss.logits")) < 1e-9);

    dd::distiller moved = std::move(kd);
    EXPECT(moved.step() > total);
    EXPECT(status_of([&] { kd.step(); }) == DD_ERR_ARGUMENT);
}

static void adaptor_parameters(const dd::tensorfile &file)
{
    dd::distiller kd(dd::context("device=ref"));
    bind_all(kd, file);
    EXPECT(kd.parameters().empty());
    const dd::tensor wide = file["student.features.0"];
    std::vector<double> narrow(static_cast<std::size_t>(wide.shape(0) * 5 * wide.shape(2) * wide.shape(3)), .25);
    kd.bind("student.features.0", dd::view(narrow, {wide.shape(0), 5, wide.shape(2), wide.shape(3)}));
    kd.prepare();
    auto all = kd.parameters();
    EXPECT(all.size() == 2 && all[0].name == "adaptor.0.weight" && all[0].value.shape(1) == 5);
    const double before = kd.step();
    for (float &bias : all[1].value.as<float>())
        bias += 1;
    EXPECT(kd.step() != before);
}

static void errors(const dd::tensorfile &file)
{
    const dd::context context("device=ref");
    const auto option = thrown<dd::error>([&] { dd::distiller(context, "familly=dino"); });
    EXPECT(option && option->status() == DD_ERR_OPTION && option->subject() == "familly");
    EXPECT(option && std::string(option->what()).find("family") != std::string::npos);
    EXPECT(option && std::string(option->name()) == "DD_ERR_OPTION" && option->image() == -1);
    EXPECT(status_of([] { dd::tensorfile("/nonexistent"); }) == DD_ERR_IO);

    dd::distiller kd(context);
    bind_all(kd, file);
    std::vector<float> logits(3 * 2 * 36 * 16);
    logits[((2 * 2 + 1) * 36 + 5) * 16] = std::nanf("");
    kd.bind("student.logits", dd::view(logits, {3, 2, 36, 16}));
    const auto place = thrown<dd::error>([&] { kd.step(); });
    EXPECT(place && place->status() == DD_ERR_NONFINITE && place->stage() == 2 && place->image() == 1 && place->query() == 5);

    EXPECT(throws<std::invalid_argument>([&] { dd::view(logits, {3, 2, 36, 15}); }));
    EXPECT(throws<std::invalid_argument>([&] { dd::view(logits.data(), {3, 2}, {1}); }));
    EXPECT(status_of([&] { dd::view(logits.data(), {-1}); }) == DD_ERR_ARGUMENT);
    const std::vector<float> constant(6);
    EXPECT(dd::view(constant, {2, 3}).get()->flags == DD_TENSOR_READONLY);
    EXPECT(throws<std::out_of_range>([&] { dd::view(constant, {2, 3}).shape(2); }));
    const dd::tensor turned = dd::view(logits.data(), {2, 3}, {1, 2});
    EXPECT(!turned.contiguous() && turned.stride(1) == 2 && throws<std::invalid_argument>([&] { turned.as<float>(); }));
}

struct odd : std::runtime_error {
    using std::runtime_error::runtime_error;
};

static void callbacks(const dd::tensorfile &file)
{
    dd::distiller kd(dd::context("device=ref"));
    bind_all(kd, file);
    int seen = 0;
    kd.set_trace([&](std::string_view object) { return ++seen, object.front() == '{' && object.back() == '}'; });
    dd::distiller moved = std::move(kd); /* the library keeps the callback's address */
    const double total = moved.step();
    EXPECT(seen == 3 * 2 * 36);
    moved.set_trace([&](std::string_view) { return ++seen, false; });
    moved.step();
    EXPECT(seen == 3 * 2 * 36 + 1);
    moved.set_trace([](std::string_view) -> bool { throw odd("from inside"); });
    const auto inside = thrown<odd>([&] { moved.step(); });
    EXPECT(inside && std::string(inside->what()) == "from inside");
    moved.set_trace({});
    EXPECT(moved.step() == total);

    moved.set_mean([](dd::values<double> local) { std::for_each(local.begin(), local.end(), [](double &v) { v /= 2; }); });
    EXPECT(moved.step() > total);
    moved.set_mean([](dd::values<double>) { throw odd("from the mean"); });
    EXPECT(throws<odd>([&] { moved.step(); }));
    moved.set_mean({});
    EXPECT(moved.step() == total);
}

static void lifetimes(const dd::tensorfile &file)
{
    const char *const orders[] = {"cdm", "cmd", "dcm", "dmc", "mcd", "mdc"};
    for (const char *order : orders) {
        std::optional<dd::context> context(std::in_place, "device=ref");
        context->set_log([](std::int32_t, std::string_view) {}, DD_LOG_DEBUG);
        std::optional<dd::distiller> kd(std::in_place, *context);
        std::optional<dd::matcher> matcher(std::in_place, *context, "with=objects");
        bind_all(*kd, file);
        for (const char *which = order; *which; which++) {
            if (*which == 'c')
                context.reset();
            else if (*which == 'd')
                kd.reset();
            else
                matcher.reset();
            if (kd)
                EXPECT(kd->step() > 0);
            if (matcher)
                EXPECT(status_of([&] { matcher->run(); }) == DD_ERR_STATE);
        }
    }
}

static void matching(const dd::tensorfile &file)
{
    const dd::context context("device=ref");
    dd::matcher matcher(context, "with=objects family=deformable-detr");
    for (const char *name : {"student.logits", "student.boxes", "gt.boxes", "gt.labels", "gt.offsets", "image.sizes"})
        matcher.bind(name, file[name]);
    matcher.run();
    const auto [stages, images] = matcher.count();
    EXPECT(stages == 3 && images == 2);
    dd::distiller kd(context);
    bind_all(kd, file);
    kd.step();
    const auto expected = kd.result("match.det").as<const std::int32_t>();
    const auto block = matcher.result(2, 1);
    EXPECT(block.match.size() == 36 && std::equal(block.match.begin(), block.match.end(), expected.begin() + (2 * 2 + 1) * 36));
    EXPECT(status_of([&] { matcher.result(3, 0); }) == DD_ERR_NOT_FOUND);

    std::mt19937 generator(5);
    std::uniform_real_distribution<double> uniform(-1, 1);
    for (int trial = 0; trial < 200; trial++) {
        const std::int64_t n = 1 + trial % 6;
        std::vector<double> cost(static_cast<std::size_t>(n * n));
        std::generate(cost.begin(), cost.end(), [&] { return uniform(generator); });
        std::vector<std::int32_t> order(static_cast<std::size_t>(n));
        std::iota(order.begin(), order.end(), 0);
        double best = INFINITY;
        do {
            double sum = 0;
            for (std::size_t i = 0; i < order.size(); i++)
                sum += cost[i * order.size() + static_cast<std::size_t>(order[i])];
            best = std::min(best, sum);
        } while (std::next_permutation(order.begin(), order.end()));
        EXPECT(std::fabs(dd::assign(cost, n, n).total - best) <= 1e-12);
    }
    EXPECT(dd::assign(std::vector<float>{5, 1, 3}, 3, 1).row_to_col == (std::vector<std::int32_t>{-1, 0, -1}));
    EXPECT(dd::assign(std::vector<float>{}, 0, 4).row_to_col.empty());
    EXPECT(throws<std::invalid_argument>([] { dd::assign(std::vector<float>(5), 2, 3); }));
}

static long resident_kib()
{
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.rfind("VmRSS:", 0) == 0)
            return std::stol(line.substr(6));
    return 0;
}

static void hundred_thousand_calls()
{
    const dd::context context("device=ref");
    std::vector<float> logits(12), cost{4, 1, 3, 2, 0, 5, 3, 2, 2};
    dd::distiller kd(context);
    const auto round = [&](int count) {
        for (int i = 0; i < count; i++) {
            dd::assign(cost, 3, 3);
            kd.bind("student.logits", dd::view(logits, {1, 1, 4, 3}));
            thrown<dd::error>([&] { kd.bind("nothing", dd::view(logits, {12})); });
            if (i % 4 == 0)
                dd::distiller(context, "prior=none").set_trace([](std::string_view) { return true; });
        }
    };
    round(2000);
    const long before = resident_kib();
    round(35000);
    EXPECT(before > 0 && resident_kib() - before < 512);
}

int main(int argc, char **argv)
{
    const dd::tensorfile file(argc > 1 ? argv[1] : "");
    steps(file);
    adaptor_parameters(file);
    errors(file);
    callbacks(file);
    lifetimes(file);
    matching(file);
    hundred_thousand_calls();
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}
