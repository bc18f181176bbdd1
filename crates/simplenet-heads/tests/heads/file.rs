//! Heads to bytes and back, and files that are no heads.

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use simplenet_heads::{Adaptor, Error, Head, Standardizer, StoredTensor};

use crate::support::{ADAPTORS, bank_of, head};

fn write(tensors: &[StoredTensor]) -> Vec<u8> {
    let views = tensors.iter().map(|tensor| {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).expect("a view");
        (tensor.name.as_str(), view)
    });
    safetensors::serialize(views, None).expect("a file")
}

#[test]
fn a_head_comes_back_as_it_was() {
    for adaptor in ADAPTORS {
        let mut head = head::<f32>(5, 7, adaptor, 3);
        assert_eq!(
            Head::from_safetensors(&head.to_safetensors().expect("bytes")).expect("a head"),
            head
        );
        head.set_standardizer(Standardizer::fit(&bank_of(2, 9, 5, 3.0, 1)))
            .expect("five channels");
        assert_eq!(
            Head::from_safetensors(&head.to_safetensors().expect("bytes")).expect("a head"),
            head
        );

        let mut tensors = head.stored_tensors("head.");
        let other = StoredTensor {
            name: "threshold".into(),
            shape: vec![1],
            dtype: Dtype::F32,
            bytes: vec![0; 4],
        };
        tensors.push(other);
        let file = write(&tensors);
        let found = Head::from_tensors(&SafeTensors::deserialize(&file).expect("a file"), "head.").expect("a head");
        assert_eq!(found, head, "among other things in a file");
    }
}

#[test]
fn what_is_no_head_is_refused_by_name() {
    let tensors = head::<f32>(5, 7, Adaptor::Linear { bias: true }, 3).stored_tensors("");
    let refused = |change: &dyn Fn(&mut Vec<StoredTensor>)| {
        let mut tensors = tensors.clone();
        change(&mut tensors);
        Head::<f32>::from_safetensors(&write(&tensors))
            .expect_err("no head")
            .to_string()
    };
    fn named<'a>(tensors: &'a mut [StoredTensor], name: &str) -> &'a mut StoredTensor {
        tensors.iter_mut().find(|tensor| tensor.name == name).expect("a tensor")
    }
    let refuse = |start: &str, change: &dyn Fn(&mut Vec<StoredTensor>)| {
        let found = refused(change);
        assert_eq!(found, format!("the file holds no usable head: {start}"));
    };
    refuse("disc.bn.bias is missing", &|tensors| {
        tensors.retain(|tensor| tensor.name != "disc.bn.bias")
    });
    refuse("disc.bn.weight has shape [1, 7], expected [7]", &|tensors| {
        named(tensors, "disc.bn.weight").shape = vec![1, 7];
    });
    // As many channels as would make an adaptor of four terabytes.
    refuse(
        "adaptor.0.weight has shape [5, 5], expected [1048576, 1048576]",
        &|tensors| {
            let wide = named(tensors, "disc.fc1.weight");
            (wide.shape, wide.bytes) = (vec![1, 1 << 20], vec![0; 4 << 20]);
        },
    );
    refuse("disc.bn.weight is of type I32, expected F32 or F64", &|tensors| {
        named(tensors, "disc.bn.weight").dtype = Dtype::I32;
    });
    refuse("disc.fc2.weight has NaN at index 2", &|tensors| {
        named(tensors, "disc.fc2.weight").bytes[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    refuse("disc.bn.running_var has a negative variance", &|tensors| {
        named(tensors, "disc.bn.running_var").bytes[0..4].copy_from_slice(&(-1.0_f32).to_le_bytes());
    });
    refuse("standardize.scale is missing", &|tensors| {
        let mut mean = named(tensors, "adaptor.0.bias").clone();
        mean.name = "standardize.mean".into();
        tensors.push(mean);
    });
    let found = refused(&|tensors| named(tensors, "adaptor.0.bias").name = "adaptor.9.bias".into());
    assert!(found.contains("adaptor.9.bias belongs to no head of shape"), "{found}");
    assert!(matches!(
        Head::<f32>::from_safetensors(b"PK not a head"),
        Err(Error::Safetensors(_))
    ));
}

/// Xavier-normal weights, uniform biases within 1/√inputs, the rest constant; another seed, another head.
#[test]
fn a_new_head_begins_as_the_authors_do() {
    let head = head::<f32>(64, 90, Adaptor::Linear { bias: true }, 11);
    for tensor in head.tensors() {
        let count = tensor.data.len() as f64;
        let square = tensor.data.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / count;
        let expected = match tensor.name {
            "adaptor.0.weight" => 2.0 / 128.0,
            "disc.fc1.weight" => 2.0 / 154.0,
            "disc.fc2.weight" => 2.0 / 91.0,
            "adaptor.0.bias" | "disc.fc1.bias" => 1.0 / 64.0 / 3.0,
            "disc.bn.weight" | "disc.bn.running_var" => 1.0,
            "disc.bn.bias" | "disc.bn.running_mean" => 0.0,
            other => panic!("unexpected {other}"),
        };
        // Five standard errors of a mean of squares: 5·√(2/n) relative for normal numbers, less for the others.
        assert!(
            (square - expected).abs() <= 5.0 * (2.0 / count).sqrt() * expected,
            "{}: {square}",
            tensor.name
        );
        if tensor.name.ends_with("0.bias") {
            assert!(tensor.data.iter().all(|x| x.abs() <= 0.125));
        }
    }
    assert_ne!(head, crate::support::head(64, 90, Adaptor::Linear { bias: true }, 12));
}
