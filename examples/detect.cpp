/* SPDX-License-Identifier: Apache-2.0
 * Runs a model over pictures and prints the best detection of each: detect MODEL DATA SIZE */
#include <cstdio>
#include <detrdistill/detrdistill.hpp>

int main(int argc, char **argv)
try {
    const std::string folder = argc > 1 ? argv[1] : "model", path = argc > 2 ? argv[2] : "scenes",
                      size = argc > 3 ? argv[3] : "800";
    dd::model model = dd::model::load(dd::context("device=cpu"), folder, "gradients=0");
    const std::vector<std::string> classes = model.classes();
    const dd::dataset data(path);
    dd::loader loader(data, "mode=eval max-size=0 sizes=" + size);
    while (const std::int32_t images = loader.next()) {
        model.forward(loader["pixels"], loader["image.sizes"]);
        const auto sizes = loader["image.originals"].as<const std::int32_t>();
        for (std::int32_t i = 0; i < images; i++) {
            const std::size_t at = 2 * static_cast<std::size_t>(i);
            for (const dd::detection &d : model.detections(i, sizes[at], sizes[at + 1], 1))
                std::printf("%s %.3f at %.1f %.1f %.1f %.1f\n", classes[static_cast<std::size_t>(d.label)].c_str(), d.score,
                            d.box[0], d.box[1], d.box[2], d.box[3]);
        }
    }
} catch (const dd::error &error) {
    std::puts(error.what());
    return 1;
}
