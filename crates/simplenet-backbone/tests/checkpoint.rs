//! Files of weights: every format that is read, and what is said of those that are not.

mod common;

use std::path::Path;

use half::{bf16, f16};
use safetensors::Dtype;
use simplenet_backbone::{
    Arch, Backbone, BackboneError, Checkpoint, Embedding, Extractor, FeatureConfig, Precision, Stage,
};

fn read(bytes: impl Into<Vec<u8>>) -> Result<Checkpoint, BackboneError> {
    Checkpoint::from_bytes(Path::new("weights.file"), bytes.into())
}

#[track_caller]
fn refused<T>(result: Result<T, BackboneError>) -> String {
    match result {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    }
}

/// Both files were written by torch 2.15:
///
/// ```python
/// base = torch.arange(6, dtype=torch.float32)
/// tensors = {
///     "plain": torch.tensor([[1.5, -2.0, 3.25], [0.5, 100.0, -7.0]]),
///     "half": torch.tensor([1.5, -2.0, 0.1], dtype=torch.float16),
///     "brain": torch.tensor([[1.5, -2.0], [0.1, 3.0]], dtype=torch.bfloat16),
///     "double": torch.tensor([0.1], dtype=torch.float64),
///     "transposed": base.view(2, 3).t(), "tail": base[4:], "count": torch.tensor(7),
///     "parameter": torch.nn.Parameter(torch.tensor([2.0, 4.0])),
/// }
/// torch.save({"epoch": 3, "state_dict": tensors}, "tiny_zip.pth")
/// torch.save(tensors, "tiny_legacy.pth", _use_new_zipfile_serialization=False)
/// ```
const TORCH_FILES: [&[u8]; 2] = [
    include_bytes!("data/tiny_zip.pth"),
    include_bytes!("data/tiny_legacy.pth"),
];

#[test]
fn both_formats_of_torch_are_read() {
    for file in TORCH_FILES {
        let checkpoint = read(file).unwrap();
        let tensor = |name, shape: &[usize]| checkpoint.tensor(name, shape).unwrap().unwrap();
        assert_eq!(checkpoint.names().count(), 8);
        assert_eq!(tensor("plain", &[2, 3]), [1.5, -2.0, 3.25, 0.5, 100.0, -7.0]);
        assert_eq!(tensor("half", &[3]), [1.5, -2.0, f16::from_f32(0.1).to_f32()]);
        assert_eq!(tensor("brain", &[2, 2]), [1.5, -2.0, bf16::from_f32(0.1).to_f32(), 3.0]);
        assert_eq!(tensor("double", &[1]), [0.1]);
        assert_eq!(tensor("transposed", &[3, 2]), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(tensor("tail", &[2]), [4.0, 5.0]);
        assert_eq!(tensor("parameter", &[2]), [2.0, 4.0]);
        assert!(checkpoint.tensor("absent", &[1]).unwrap().is_none());
        assert!(refused(checkpoint.tensor("count", &[])).contains("`count` holds I64, expected f32"));
        assert!(refused(checkpoint.tensor("tail", &[3])).contains("`tail` has shape [2], expected [3]"));
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let small = vec![("weight".to_string(), vec![2, 3], vec![1.0; 6])];
    let whole = common::safetensors(&small);
    for file in TORCH_FILES.into_iter().chain([whole.as_slice()]) {
        for length in 0..file.len() {
            let message = refused(read(&file[..length]));
            assert!(
                message.starts_with("weights.file is not a whole checkpoint: "),
                "{length}: {message}"
            );
        }
    }
}

/// A changed byte may still be a checkpoint, but never a crash.
#[test]
fn a_damaged_file_never_panics() {
    for file in TORCH_FILES {
        for at in 0..file.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = file.to_vec();
                damaged[at] ^= flip;
                if let Ok(checkpoint) = read(damaged) {
                    for name in checkpoint.names() {
                        let shape = checkpoint.shape(name).unwrap();
                        let _ = checkpoint.tensor(name, shape);
                    }
                }
            }
        }
    }
}

#[test]
fn a_malicious_pickle_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("ran");
    let command = format!("touch {}", victim.display());
    // cposix.system(command), as `pickle.dumps` writes what `__reduce__` returns.
    let mut call = b"\x80\x02cposix\nsystem\nq\x00X".to_vec();
    call.extend((command.len() as u32).to_le_bytes());
    call.extend(command.as_bytes());
    call.extend(b"q\x01\x85q\x02Rq\x03.");
    let magic = &TORCH_FILES[1][..15];
    let version_and_system = b"\x80\x02M\xe9\x03.\x80\x02}q\x00.";
    let file = [magic, version_and_system, &call, &call].concat();
    assert!(refused(read(file)).contains("its pickle is not a dictionary of tensors"));
    assert!(!victim.exists());
    // The same call without its arguments being a tuple, a number too long and a string longer than the file.
    for bad in [
        &b"\x80\x02cposix\nsystem\nNR."[..],
        b"\x80\x02\x8a\xff.",
        b"\x80\x02X\xff\xff\xff\xff.",
    ] {
        refused(read([magic, version_and_system, bad].concat()));
    }
}

/// What nests is taken apart by calls that nest as deep, and a stack ends before a file does.
#[test]
fn a_pickle_that_nests_too_deep_is_refused() {
    let magic = &TORCH_FILES[1][..15];
    // Tuples in tuples; the same through the memo; a list in a list in a list; a call whose argument is a call.
    let tuples = [&b")"[..], &[0x85; 1_000_000], b"."].concat();
    let memo = [&b")"[..], &[0x85, b'q', 0, b'h', 0].repeat(1_000_000), b"."].concat();
    let lists = [b"](".repeat(1_000_000), b"e".repeat(1_000_000), b".".to_vec()].concat();
    let calls = [&b"ca\nb\n".repeat(3000)[..], b")", &b"\x85R".repeat(3000), b"."].concat();
    for pickle in [tuples, memo, lists, calls] {
        let message = refused(read([magic, &pickle].concat()));
        assert!(message.contains("nests more than"), "{message}");
    }
    // Forty times the double of what was there: a million million objects in two hundred bytes.
    let doubled = [&b")q\0"[..], &[b'h', 0, b'h', 0, 0x86, b'q', 0].repeat(40), b"."].concat();
    let message = refused(read([magic, &doubled].concat()));
    assert!(message.contains("copies more than"), "{message}");
}

#[test]
fn weights_of_every_float_type_load_and_are_identified() {
    let tensors = common::resnet(Arch::ResNet18, Stage::Layer1);
    let load =
        |bytes: Vec<u8>| Backbone::from_checkpoint(Arch::ResNet18, &read(bytes).unwrap(), Stage::Layer1).unwrap();
    let full = load(common::safetensors(&tensors));
    let half = load(common::encode(&tensors, Dtype::F16, |v| {
        f16::from_f32(v).to_le_bytes().to_vec()
    }));
    let brain = load(common::encode(&tensors, Dtype::BF16, |v| {
        bf16::from_f32(v).to_le_bytes().to_vec()
    }));
    let rows = |backbone: &Backbone| {
        let config = FeatureConfig {
            stages: vec![Stage::Layer1],
            patch: 1,
            embedding: Embedding::Mean,
        };
        let extractor = Extractor::new(backbone, config, Precision::F32).unwrap();
        extractor
            .extract(&common::input(3 * 20 * 28), [1, 3, 20, 28])
            .unwrap()
            .data
    };
    let expected = rows(&full);
    common::assert_close("f16", &rows(&half), &expected, 0.0, 2e-3);
    common::assert_close("bf16", &rows(&brain), &expected, 0.0, 2e-2);
    assert_ne!(full.identity(), half.identity());
    // python3 -c "import hashlib; print(hashlib.sha256(open('tests/data/tiny_legacy.pth', 'rb').read()).hexdigest())"
    assert_eq!(
        read(TORCH_FILES[1]).unwrap().identity(),
        "b2dfc906da13dcbfa0b88362a87825449565fc8bdb9d2f7223ce162edf059965"
    );
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() {
    let tensors = common::resnet(Arch::ResNet18, Stage::Layer3);
    let whole = common::checkpoint(&tensors);
    let message = refused(Backbone::from_checkpoint(Arch::WideResNet50_2, &whole, Stage::Layer3));
    assert!(
        message.starts_with("rule.safetensors looks like resnet18, not wide_resnet50_2"),
        "{message}"
    );
    let message = refused(Backbone::from_checkpoint(
        Arch::EfficientNetLite0,
        &whole,
        Stage::Layer3,
    ));
    assert!(
        message.starts_with("rule.safetensors looks like resnet18, not efficientnet_lite0"),
        "{message}"
    );
    let message = refused(Backbone::from_checkpoint(Arch::ResNet18, &whole, Stage::Layer4));
    assert_eq!(
        message,
        "rule.safetensors has no tensor `layer4.0.downsample.0.weight`, which resnet18 needs"
    );

    let edited = |edit: &dyn Fn(&mut common::Tensors)| {
        let mut tensors = tensors.clone();
        edit(&mut tensors);
        refused(Backbone::from_checkpoint(
            Arch::ResNet18,
            &common::checkpoint(&tensors),
            Stage::Layer3,
        ))
    };
    let at = |name: &str| tensors.iter().position(|(tensor, ..)| tensor == name).unwrap();
    let (weight, mean) = (at("layer2.0.conv2.weight"), at("layer2.0.bn2.running_mean"));
    assert_eq!(
        edited(&|tensors| drop(tensors.remove(mean))),
        "rule.safetensors has no tensor `layer2.0.bn2.running_mean`, which resnet18 needs"
    );
    assert_eq!(
        edited(&|tensors| tensors[weight].1 = vec![128, 384, 3, 1]),
        "rule.safetensors: `layer2.0.conv2.weight` has shape [128, 384, 3, 1], expected [128, 128, 3, 3]"
    );
    assert_eq!(
        edited(&|tensors| tensors[weight].2[5] = f32::NAN),
        "rule.safetensors: `layer2.0.conv2.weight` holds NaN or infinite values"
    );
    let variance = at("layer3.1.bn1.running_var");
    assert_eq!(
        edited(&|tensors| tensors[variance].2[0] = -1.0),
        "rule.safetensors: `layer3.1.bn1.running_var` holds NaN or infinite values"
    );

    let nowhere = refused(Backbone::load(Arch::ResNet18, Path::new("no/such/file"), Stage::Layer3));
    assert_eq!(nowhere, "no/such/file cannot be read");
    let message = refused(read(b"<html>not found</html>".to_vec()));
    assert!(
        message.starts_with("weights.file is not a whole checkpoint: "),
        "{message}"
    );
}

#[test]
fn features_that_cannot_be_are_refused() {
    let backbone = Backbone::embedded(Arch::EfficientNetLite0, Stage::Layer2).unwrap();
    let new = |stages: &[Stage], patch, embedding| {
        Extractor::new(
            &backbone,
            FeatureConfig {
                stages: stages.to_vec(),
                patch,
                embedding,
            },
            Precision::F32,
        )
    };
    assert!(refused(new(&[], 3, Embedding::Mean)).contains("no list of different stages"));
    assert!(refused(new(&[Stage::Layer1; 2], 3, Embedding::Mean)).contains("[Layer1, Layer1]"));
    assert!(refused(new(&[Stage::Layer2], 4, Embedding::Mean)).contains("a patch of side 4 has no centre"));
    let nothing = Embedding::Code {
        pretrain_dim: 0,
        target_dim: 8,
    };
    assert!(refused(new(&[Stage::Layer2], 3, nothing)).contains("pretrain_dim is 0"));
    let message = refused(new(&[Stage::Layer3], 3, Embedding::Mean));
    assert!(
        message.contains("was loaded up to layer2, and layer3 is asked for"),
        "{message}"
    );

    let extractor = new(&[Stage::Layer2], 3, Embedding::Mean).unwrap();
    assert!(refused(extractor.extract(&[0.0; 100], [1, 3, 8, 8])).contains("100"));
    assert!(refused(extractor.extract(&[0.0; 64], [1, 1, 8, 8])).contains("1 channels"));
    refused(extractor.extract(&[], [0, 3, 8, 8]));
    refused(extractor.extract(&[], [1, 3, 0, 8]));

    assert!(refused(Backbone::embedded(Arch::ResNet18, Stage::Layer1)).contains("no weights of resnet18 are embedded"));
    assert!(refused(Backbone::embedded(Arch::EfficientNetLite0, Stage::Layer4)).contains("layer4 is asked for"));
}

#[test]
fn names_are_read_back() {
    for arch in Arch::ALL {
        assert_eq!(arch.to_string().parse::<Arch>().unwrap(), arch);
        let json = serde_json::to_string(&arch).unwrap();
        assert_eq!(json, format!("\"{arch}\""));
        assert_eq!(serde_json::from_str::<Arch>(&json).unwrap(), arch);
    }
    for stage in Stage::ALL {
        assert_eq!(stage.to_string().parse::<Stage>().unwrap(), stage);
        assert_eq!(serde_json::to_string(&stage).unwrap(), format!("\"{stage}\""));
    }
    assert!(refused("resnet19".parse::<Arch>()).contains("one of resnet18, resnet34"));
    assert!(
        serde_json::from_str::<Arch>("\"vgg\"")
            .unwrap_err()
            .to_string()
            .contains("`vgg` is not a backbone")
    );

    let config = FeatureConfig {
        stages: vec![Stage::Layer2, Stage::Layer3],
        patch: 3,
        embedding: Embedding::Code {
            pretrain_dim: 1536,
            target_dim: 1024,
        },
    };
    let json =
        r#"{"stages":["layer2","layer3"],"patch":3,"embedding":{"code":{"pretrain-dim":1536,"target-dim":1024}}}"#;
    assert_eq!(serde_json::to_string(&config).unwrap(), json);
    assert_eq!(serde_json::from_str::<FeatureConfig>(json).unwrap(), config);
    assert_eq!(config.dim(Arch::WideResNet50_2), 1024);
    let config = FeatureConfig {
        embedding: Embedding::Mean,
        ..config
    };
    assert_eq!(config.dim(Arch::WideResNet50_2), 1536);
    assert_eq!(serde_json::to_string(&config.embedding).unwrap(), "\"mean\"");
}
