//! One step in f32 against candle's autograd and candle's AdamW, on sizes that divide nothing.

use std::collections::BTreeMap;

use candle_core::{D, Device, Result, Tensor, Var};
use candle_nn::{AdamW, Optimizer as _, ParamsAdamW};
use simplenet_heads::{Adaptor, Head, Loss, Precision, Rule, Step, TrainConfig};

use crate::support::{ADAPTORS, TRUNCATED, floats, head, largest_difference, optimizer};

const SIZES: [[usize; 3]; 2] = [[37, 13, 29], [131, 70, 33]];

type Vars = BTreeMap<String, Var>;

/// The loss as candle differentiates it.
fn loss_of(vars: &Vars, x: &Tensor, noise: &Tensor, loss: Loss) -> Result<Tensor> {
    let leaky = |x: &Tensor| candle_nn::ops::leaky_relu(x, 0.2);
    let linear = |name: &str, x: &Tensor| -> Result<Tensor> {
        let y = x.matmul(&vars[&format!("{name}.weight")].t()?)?;
        match vars.get(&format!("{name}.bias")) {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    };
    let mut adapted = x.clone();
    for layer in 0..2 {
        if !vars.contains_key(&format!("adaptor.{layer}.weight")) {
            break;
        }
        let input = if layer > 0 { leaky(&adapted)? } else { adapted };
        adapted = linear(&format!("adaptor.{layer}"), &input)?;
    }
    let both = Tensor::cat(&[&adapted, &(&adapted + noise)?], 0)?;
    let z = linear("disc.fc1", &both)?;
    let centred = z.broadcast_sub(&z.mean_keepdim(0)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(0)? + 1e-5)?.sqrt()?;
    let normalised = centred.broadcast_div(&deviation)?;
    let y = normalised
        .broadcast_mul(&vars["disc.bn.weight"])?
        .broadcast_add(&vars["disc.bn.bias"])?;
    let scores = linear("disc.fc2", &leaky(&y)?)?.squeeze(D::Minus1)?;
    let rows = x.dim(0)?;
    let (normal, noised) = (scores.narrow(0, 0, rows)?, scores.narrow(0, rows, rows)?);
    let softplus = |x: Tensor| -> Result<Tensor> { (x.exp()? + 1.0)?.log() };
    match loss {
        Loss::TruncatedL1 {
            positive_margin,
            negative_margin,
        } => {
            let normal = (positive_margin - normal)?.relu()?.mean_all()?;
            normal + (noised - negative_margin)?.relu()?.mean_all()?
        }
        Loss::CrossEntropy => softplus(normal.neg()?)?.mean_all()? + softplus(noised)?.mean_all()?,
    }
}

fn compare(adaptor: Adaptor, loss: Loss, [rows, dim, hidden]: [usize; 3]) -> Result<()> {
    let adamw = optimizer(Rule::AdamW, 1e-3, 0.02);
    let config = TrainConfig {
        epochs: 1,
        batch_images: 1,
        noise: 0.1,
        loss,
        adaptor_optimizer: adamw,
        discriminator_optimizer: adamw,
        precision: Precision::F32,
    };
    let mut head: Head<f32> = head(dim, hidden, adaptor, 4);
    let device = &Device::Cpu;
    let mut vars = Vars::new();
    for tensor in head.tensors().filter(|tensor| !tensor.name.contains("running")) {
        vars.insert(
            tensor.name.into(),
            Var::from_tensor(&Tensor::from_slice(tensor.data, tensor.shape, device)?)?,
        );
    }
    let x: Vec<f32> = floats(rows * dim, 1).into_iter().map(|x| x.max(-0.2) + 0.5).collect();
    let noise: Vec<f32> = floats(rows * dim, 2).into_iter().map(|x| 0.3 * x).collect();
    let mut step = Step::new(head.config(), &config, rows).expect("a step");
    let report = step.run(&mut head, &x, &noise).expect("a step");

    let (x, noise) = (
        Tensor::from_vec(x, (rows, dim), device)?,
        Tensor::from_vec(noise, (rows, dim), device)?,
    );
    let candle_loss = loss_of(&vars, &x, &noise, loss)?;
    let stored = candle_loss.backward()?;
    let parameters = ParamsAdamW {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.02,
    };
    AdamW::new(vars.values().cloned().collect(), parameters)?.step(&stored)?;

    let expected = candle_loss.to_scalar::<f32>()?;
    assert!(
        (report.loss as f32 - expected).abs() < 1e-5,
        "{adaptor:?}: loss {} against {expected}",
        report.loss
    );
    for gradient in step.gradients() {
        let expected = stored
            .get(&vars[gradient.name])
            .expect("a gradient")
            .flatten_all()?
            .to_vec1::<f32>()?;
        let difference = largest_difference(gradient.data, &expected);
        assert!(
            difference < 1e-5,
            "{adaptor:?} gradient of {}: {difference:e}",
            gradient.name
        );
    }
    // Adam divides a gradient by its own size, so where it is 0 but for rounding the updates differ by chance: biases ahead
    // of batch norm, and units whose rows balance.
    let before: BTreeMap<&str, &[f32]> = step.gradients().map(|tensor| (tensor.name, tensor.data)).collect();
    for tensor in head.tensors() {
        let (Some(var), Some(gradient)) = (vars.get(tensor.name), before.get(tensor.name)) else {
            continue;
        };
        let expected = var.flatten_all()?.to_vec1::<f32>()?;
        for ((found, expected), gradient) in tensor.data.iter().zip(expected).zip(*gradient) {
            let difference = (found - expected).abs();
            let judged = gradient.abs() > 1e-5;
            assert!(
                !judged || difference < 1e-5,
                "{adaptor:?} updated {}: {difference:e}",
                tensor.name
            );
        }
    }
    Ok(())
}

#[test]
fn a_step_is_what_autograd_makes_of_it() -> Result<()> {
    for sizes in SIZES {
        for adaptor in ADAPTORS {
            compare(adaptor, TRUNCATED, sizes)?;
            compare(adaptor, Loss::CrossEntropy, sizes)?;
        }
    }
    Ok(())
}
