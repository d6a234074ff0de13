/* SPDX-License-Identifier: Apache-2.0
 * One distillation step on the tensors of a safetensors file that have the library's names: kd_step CASE */
#include <detrdistill/detrdistill.hpp>
#include <iostream>

int main(int argc, char **argv)
try {
    const dd::tensorfile file(argc > 1 ? argv[1] : "kd_case.safetensors");
    dd::distiller kd(dd::context("device=cpu"), "family=deformable-detr");
    for (int i = 0; i < file.count(); i++) {
        const auto [name, tensor] = file.at(i);
        kd.bind(name, tensor);
    }
    std::cout.precision(8);
    std::cout << "total " << kd.step() << '\n';
} catch (const dd::error &error) {
    std::cout << error.what() << '\n';
    return 1;
}
