/* SPDX-License-Identifier: Apache-2.0
 * Trains a small detector on generated scenes and keeps it as a Hugging Face folder: train FOLDER */
#include <cstdio>
#include <detrdistill/detrdistill.hpp>

int main(int argc, char **argv)
try {
    const std::string folder = argc > 1 ? argv[1] : "run", scenes = "scenes:train=8,val=4,size=64,classes=3";
    const dd::dataset train(scenes, "split=train"), validation(scenes, "split=val");
    const dd::context context("device=cpu seed=7");
    dd::model student =
        dd::model::create(context, "backbone=resnet-18 classes=3 queries=10 width=32 levels=3 heads=2 ffn=64 decoder-layers=2 "
                                   "encoder-layers=1 stem=8 widths=8,16,24,32 depths=1,1,1,1");
    dd::trainer run(student, nullptr, train, &validation, folder, "epochs=2 sizes=64 max-size=0 crop=0 warmup=0");
    run.on_progress([](auto event, const auto &values) {
        for (std::size_t i = 0; event == DD_TRAIN_EVALUATED && i < 3; i++)
            std::printf("%s %g%s", values[i].first.data(), values[i].second, i < 2 ? "  " : "\n");
        return false; // go on
    });
    run.run();
    std::printf("loss %.4f, the student is in %s/student\n", run.value("loss.total"), folder.c_str());
} catch (const dd::error &error) {
    std::puts(error.what());
    return 1;
}
