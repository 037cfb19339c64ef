//! Configurations of checkpoints that are not converted.

use std::path::Path;

use serde_json::{Value, json};

use super::find;

#[test]
fn ways_to_quantize_that_no_block_holds_are_refused_by_name_and_reason() {
    let weights = |weights: Value, format: &str| json!({ "quant_method": "compressed-tensors", "format": format, "config_groups": { "group_0": { "targets": ["Linear"], "weights": weights } } });
    let int = |n: i64, group: i64| json!({ "num_bits": n, "type": "int", "symmetric": true, "strategy": "group", "group_size": group });
    let cases: [(Value, &str, &str); 43] = [
        (json!({ "quant_method": "bitsandbytes", "load_in_4bit": true }), "bitsandbytes", "table of floats"),
        (json!({ "load_in_8bit": true }), "bitsandbytes", "LLM.int8"),
        (json!({ "quant_method": "hqq" }), "hqq", "zero points are fractions"),
        (json!({ "quant_method": "aqlm" }), "aqlm", "codebook"),
        (json!({ "quant_method": "vptq" }), "vptq", "codebook"),
        (json!({ "quant_method": "quip" }), "quip", "codebook"),
        (json!({ "quant_method": "spqr" }), "spqr", "outliers"),
        (json!({ "quant_method": "exl2", "bits": 4.65 }), "exl2", "bits change within a tensor"),
        (json!({ "quant_method": "exl3", "bits": 4.0 }), "exl3", "trellis"),
        (json!({ "quant_method": "nvfp4" }), "nvfp4", "4-bit floats"),
        (json!({ "quant_method": "modelopt", "quant_algo": "NVFP4" }), "modelopt", "4-bit floats"),
        (json!({ "quant_method": "mxfp4" }), "mxfp4", "powers of two"),
        (json!({ "quant_method": "fbgemm_fp8" }), "fbgemm_fp8", "8-bit floats"),
        (json!({ "quant_method": "torchao" }), "torchao", "one library"),
        (json!({ "quant_method": "quanto" }), "quanto", "one library"),
        (json!({ "quant_method": "eetq" }), "eetq", "one library"),
        (json!({ "quant_method": "bitnet" }), "bitnet", "three values"),
        (json!({ "quant_method": "gptq_marlin", "bits": 4 }), "gptq_marlin", "one kind of GPU"),
        (json!({ "quant_method": "awq_marlin", "bits": 4 }), "awq_marlin", "one kind of GPU"),
        (json!({ "quant_method": "paroquant" }), "paroquant", "rotated"),
        (
            json!({ "quant_method": "brand-new" }),
            "brand-new",
            "AWQ, GPTQ, compressed-tensors and FP8 are known",
        ),
        (json!({ "bits": 4 }), "quantization_config.quant_method", "awq, gptq"),
        (
            json!({ "quant_method": "awq", "bits": 4, "version": "marlin" }),
            "AWQ of version marlin",
            "one kind of GPU",
        ),
        (
            json!({ "quant_method": "awq", "bits": 4, "version": "gemm", "backend": "llm-awq" }),
            "AWQ of version llm-awq",
            "gemm, gemv and gemv_fast",
        ),
        (json!({ "quant_method": "awq", "bits": 3 }), "AWQ with 3 bits", "4 bits"),
        (json!({ "quant_method": "awq", "bits": 4, "group_size": 48 }), "group_size: 48", "multiples of 32"),
        (
            json!({ "quant_method": "awq", "bits": 4, "group_size": 0 }),
            "quantization_config.group_size",
            "-1 or a multiple of 32",
        ),
        (json!({ "quant_method": "awq", "bits": "four" }), "quantization_config.bits", "a whole number"),
        (json!({ "quant_method": "gptq", "bits": 3 }), "GPTQ with 3 bits", "4 and of 8 bits"),
        (json!({ "quant_method": "gptq" }), "quantization_config.bits", "4 or 8"),
        (
            json!({ "quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin" }),
            "GPTQ in the format marlin",
            "one kind of GPU",
        ),
        (
            json!({ "quant_method": "gptq", "bits": 4, "is_marlin_format": true }),
            "GPTQ in the format marlin",
            "one kind of GPU",
        ),
        (
            json!({ "quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_p" }),
            "GPTQ in the format gptq_p",
            "gptq and gptq_v2",
        ),
        (
            json!({ "quant_method": "gptq", "bits": 4, "dynamic": { "-:lm_head": {}, "+:.*down.*": { "bits": 8 } } }),
            "+:.*down.*",
            "same bits",
        ),
        (
            json!({ "quant_method": "auto-round", "bits": 4, "packing_format": "auto_round:exllamav2" }),
            "packing_format auto_round:exllamav2",
            "convert the checkpoint",
        ),
        (
            json!({ "quant_method": "auto-round", "bits": 4, "data_type": "mx_fp" }),
            "data_type mx_fp",
            "convert the checkpoint",
        ),
        (weights(int(4, 128), "marlin-24"), "marlin-24", "one kind of GPU"),
        (
            weights(
                json!({ "num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16 }),
                "nvfp4-pack-quantized",
            ),
            "nvfp4-pack-quantized",
            "4-bit floats",
        ),
        (
            weights(
                json!({ "num_bits": 4, "type": "float", "strategy": "group", "group_size": 32 }),
                "mxfp4-pack-quantized",
            ),
            "mxfp4-pack-quantized",
            "powers of two",
        ),
        (weights(int(3, 128), "pack-quantized"), "compressed-tensors with 3 bits", "4 and of 8 bits"),
        (weights(int(4, 48), "pack-quantized"), "group_size: 48", "multiples of 32"),
        (
            weights(json!({ "num_bits": 4, "type": "int", "strategy": "tensor" }), "pack-quantized"),
            "strategy tensor",
            "of groups or of rows",
        ),
        (weights(int(4, 128), "dense"), "format dense", "not packed"),
    ];
    for (config, name, reason) in cases {
        let found = find(Path::new("/models/m"), json!({ "quantization_config": config }));
        let error = found.expect_err(name).to_string();
        assert!(error.contains("config.json"), "{error}");
        assert!(error.contains(name) && error.contains(reason), "{name}, {reason}: {error}");
    }
    let affine = json!({ "group_size": 64, "bits": 4, "mode": "affine" });
    for mlx in
        [json!({ "quantization": affine }), json!({ "quantization": affine, "quantization_config": affine })]
    {
        let error = find(Path::new("m"), mlx).unwrap_err().to_string();
        assert!(error.contains("mlx") && error.contains("a bias of 16 bits"), "{error}");
    }
    let hqq = json!({ "quantization_config": { "quant_config": { "weight_quant_params": { "nbits": 4 } } } });
    let error = find(Path::new("m"), hqq).unwrap_err().to_string();
    assert!(error.contains("hqq") && error.contains("zero points are fractions"), "{error}");
    let mut rotated = weights(int(4, 128), "pack-quantized");
    rotated["transform_config"] = json!({ "config_groups": { "u": { "type": "hadamard" } } });
    let error = find(Path::new("m"), json!({ "quantization_config": rotated })).unwrap_err().to_string();
    assert!(error.contains("transform_config") && error.contains("rotated"), "{error}");
}
