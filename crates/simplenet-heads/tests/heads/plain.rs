//! The step as the paper writes it, in plain loops, and the fast one against it.

use proptest::prelude::*;
use simplenet_heads::{Adaptor, Head, Loss, Optimizer, Precision, Rule, Step, TrainConfig};

use crate::support::{ADAPTORS, TRUNCATED, head, largest_difference, numbers, optimizer};

/// Rows of values.
type Rows = Vec<Vec<f64>>;

/// A head as named tensors, with gradients and moments beside each.
struct Plain {
    names: Vec<String>,
    values: Vec<Vec<f64>>,
    gradients: Vec<Vec<f64>>,
    moments: Vec<(Vec<f64>, Vec<f64>)>,
    layers: usize,
    updates: i32,
}

impl Plain {
    fn of(head: &Head<f64>) -> Plain {
        let (names, values): (Vec<String>, Vec<Vec<f64>>) = head
            .tensors()
            .map(|tensor| (tensor.name.to_string(), tensor.data.to_vec()))
            .unzip();
        let zeros: Vec<Vec<f64>> = values.iter().map(|values| vec![0.0; values.len()]).collect();
        let moments = zeros.iter().map(|zeros| (zeros.clone(), zeros.clone())).collect();
        Plain {
            names,
            values,
            gradients: zeros,
            moments,
            layers: head.config().adaptor.layers(),
            updates: 0,
        }
    }

    fn at(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    fn value(&self, name: &str) -> &[f64] {
        self.at(name).map_or(&[], |at| &self.values[at])
    }

    fn set_gradient(&mut self, name: &str, gradient: Vec<f64>) {
        if let Some(at) = self.at(name) {
            self.gradients[at] = gradient;
        }
    }

    fn linear(&self, name: &str, input: &Rows) -> Rows {
        let (weight, bias) = (
            self.value(&format!("{name}.weight")),
            self.value(&format!("{name}.bias")),
        );
        let outputs = weight.len() / input[0].len();
        let one = |row: &Vec<f64>, out: usize| {
            let products = row.iter().zip(&weight[out * row.len()..]).map(|(x, w)| x * w);
            products.sum::<f64>() + bias.get(out).copied().unwrap_or(0.0)
        };
        input
            .iter()
            .map(|row| (0..outputs).map(|out| one(row, out)).collect())
            .collect()
    }

    /// Sets the layer's gradients; returns that of its input.
    fn linear_back(&mut self, name: &str, input: &Rows, back: &Rows) -> Rows {
        let (inputs, outputs) = (input[0].len(), back[0].len());
        let mut weight_gradient = vec![0.0; inputs * outputs];
        let mut bias_gradient = vec![0.0; outputs];
        let mut input_gradient = vec![vec![0.0; inputs]; input.len()];
        let weight = self.value(&format!("{name}.weight")).to_vec();
        for row in 0..input.len() {
            for out in 0..outputs {
                bias_gradient[out] += back[row][out];
                for inner in 0..inputs {
                    weight_gradient[out * inputs + inner] += back[row][out] * input[row][inner];
                    input_gradient[row][inner] += back[row][out] * weight[out * inputs + inner];
                }
            }
        }
        self.set_gradient(&format!("{name}.weight"), weight_gradient);
        self.set_gradient(&format!("{name}.bias"), bias_gradient);
        input_gradient
    }

    /// Sets the gradients of one batch, without an update; returns loss and scores.
    fn differentiate(&mut self, x: &Rows, noise: &Rows, config: &TrainConfig) -> (f64, Vec<f64>) {
        let rows = x.len();
        let mut inputs = vec![x.clone()];
        for layer in 0..self.layers {
            let mut out = self.linear(&format!("adaptor.{layer}"), &inputs[layer]);
            if layer + 1 < self.layers {
                out.iter_mut().flatten().for_each(|x| *x = leaky(*x));
            }
            inputs.push(out);
        }
        let normal = inputs[self.layers].clone();
        let noised = normal
            .iter()
            .zip(noise)
            .map(|(row, noise)| row.iter().zip(noise).map(|(a, b)| a + b).collect());
        let both: Rows = normal.iter().cloned().chain(noised).collect();

        let z = self.linear("disc.fc1", &both);
        let (units, count) = (z[0].len(), z.len() as f64);
        let (gamma, beta) = (
            self.value("disc.bn.weight").to_vec(),
            self.value("disc.bn.bias").to_vec(),
        );
        let mut normalised = z.clone();
        let mut inverse = vec![0.0; units];
        for unit in 0..units {
            let mean = z.iter().map(|row| row[unit]).sum::<f64>() / count;
            let variance = z.iter().map(|row| (row[unit] - mean).powi(2)).sum::<f64>() / count;
            inverse[unit] = 1.0 / (variance + 1e-5).sqrt();
            normalised
                .iter_mut()
                .for_each(|row| row[unit] = (row[unit] - mean) * inverse[unit]);
            for (name, new) in [
                ("running_mean", mean),
                ("running_var", variance * count / (count - 1.0)),
            ] {
                let at = self.at(&format!("disc.bn.{name}")).expect("a statistic");
                self.values[at][unit] = 0.9 * self.values[at][unit] + 0.1 * new;
            }
        }
        let before = |row: &Vec<f64>, unit: usize| gamma[unit] * row[unit] + beta[unit];
        let y: Rows = normalised
            .iter()
            .map(|row| (0..units).map(|unit| leaky(before(row, unit))).collect())
            .collect();
        let scores: Vec<f64> = self.linear("disc.fc2", &y).into_iter().map(|row| row[0]).collect();

        let (mut loss, mut back) = (0.0, Vec::new());
        for (row, &score) in scores.iter().enumerate() {
            let sign = if row < rows { -1.0 } else { 1.0 };
            let (value, slope) = match config.loss {
                Loss::TruncatedL1 {
                    positive_margin,
                    negative_margin,
                } => {
                    let margin = if row < rows { positive_margin } else { -negative_margin };
                    let value = margin + sign * score;
                    (value.max(0.0), if value >= 0.0 { sign } else { 0.0 })
                }
                Loss::CrossEntropy => ((1.0 + (sign * score).exp()).ln(), sign / (1.0 + (-sign * score).exp())),
            };
            loss += value / rows as f64;
            back.push(vec![slope / rows as f64]);
        }

        let mut back = self.linear_back("disc.fc2", &y, &back);
        let (mut gamma_gradient, mut beta_gradient) = (vec![0.0; units], vec![0.0; units]);
        for (back, row) in back.iter_mut().zip(&normalised) {
            for unit in 0..units {
                back[unit] *= if before(row, unit) > 0.0 { 1.0 } else { 0.2 };
                gamma_gradient[unit] += back[unit] * row[unit];
                beta_gradient[unit] += back[unit];
            }
        }
        for (back, row) in back.iter_mut().zip(&normalised) {
            for unit in 0..units {
                let centred = back[unit] - beta_gradient[unit] / count - row[unit] * gamma_gradient[unit] / count;
                back[unit] = gamma[unit] * inverse[unit] * centred;
            }
        }
        self.set_gradient("disc.bn.weight", gamma_gradient);
        self.set_gradient("disc.bn.bias", beta_gradient);
        let back = self.linear_back("disc.fc1", &both, &back);
        let sum = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| a + b).collect();
        let mut back: Rows = back[..rows].iter().zip(&back[rows..]).map(sum).collect();
        for layer in (0..self.layers).rev() {
            back = self.linear_back(&format!("adaptor.{layer}"), &inputs[layer], &back);
            if layer > 0 {
                let slopes = inputs[layer].iter().flatten().map(|&u| if u > 0.0 { 1.0 } else { 0.2 });
                back.iter_mut()
                    .flatten()
                    .zip(slopes)
                    .for_each(|(back, slope)| *back *= slope);
            }
        }
        (loss, scores)
    }

    /// Adam and AdamW as torch.optim documents them.
    fn update(&mut self, config: &TrainConfig) {
        self.updates += 1;
        let updates = self.updates;
        for at in 0..self.names.len() {
            if self.names[at].contains("running") {
                continue;
            }
            let adaptor = self.names[at].starts_with("adaptor");
            let Optimizer {
                rule,
                learning_rate,
                weight_decay,
            } = if adaptor {
                config.adaptor_optimizer
            } else {
                config.discriminator_optimizer
            };
            for index in 0..self.values[at].len() {
                let mut gradient = self.gradients[at][index];
                match rule {
                    Rule::Adam => gradient += weight_decay * self.values[at][index],
                    Rule::AdamW => self.values[at][index] *= 1.0 - learning_rate * weight_decay,
                }
                let (first, second) = &mut self.moments[at];
                first[index] = 0.9 * first[index] + 0.1 * gradient;
                second[index] = 0.999 * second[index] + 0.001 * gradient * gradient;
                let first = first[index] / (1.0 - 0.9_f64.powi(updates));
                let second = second[index] / (1.0 - 0.999_f64.powi(updates));
                self.values[at][index] -= learning_rate * first / (second.sqrt() + 1e-8);
            }
        }
    }
}

fn leaky(x: f64) -> f64 {
    if x > 0.0 { x } else { 0.2 * x }
}

fn rows_of(values: &[f64], dim: usize) -> Rows {
    values.chunks_exact(dim).map(<[f64]>::to_vec).collect()
}

/// The gradients are compared first and the update then made from the fast step's: Adam divides by their size, and so
/// would make a step of any length out of one that is 0 but for rounding.
fn compare(adaptor: Adaptor, [rows, dim, hidden]: [usize; 3], config: &TrainConfig, seed: u64) {
    let mut fast = head::<f64>(dim, hidden, adaptor, seed);
    let mut plain = Plain::of(&fast);
    let mut step = Step::new(fast.config(), config, rows + 3).expect("a step");
    for index in 0..3 {
        let rows = if index == 2 { rows.div_ceil(2) } else { rows };
        // Features off zero, as ReLU makes them: the bias of every column is far from 0.
        let x: Vec<f64> = numbers(rows * dim, seed + 10 * index)
            .into_iter()
            .map(|x| 1.5 + x)
            .collect();
        let noise: Vec<f64> = numbers(rows * dim, seed + 10 * index + 1)
            .into_iter()
            .map(|x| 0.4 * x)
            .collect();
        let report = step.run(&mut fast, &x, &noise).expect("a step");
        let (loss, scores) = plain.differentiate(&rows_of(&x, dim), &rows_of(&noise, dim), config);
        assert!(
            (report.loss - loss).abs() < 1e-10,
            "{adaptor:?}: loss {} against {loss}",
            report.loss
        );
        let (normal, noised) = step.scores();
        assert!(
            largest_difference(&[normal, noised].concat(), &scores) < 1e-10,
            "{adaptor:?}: scores"
        );
        for gradient in step.gradients() {
            let at = plain.at(gradient.name).expect("a name");
            let expected = &mut plain.gradients[at];
            let difference = largest_difference(gradient.data, expected);
            assert!(
                difference < 1e-10,
                "{adaptor:?} gradient of {}: {difference:e}",
                gradient.name
            );
            expected.copy_from_slice(gradient.data);
        }
        plain.update(config);
        for tensor in fast.tensors() {
            let difference = largest_difference(tensor.data, plain.value(tensor.name));
            assert!(difference < 1e-11, "{adaptor:?} {}: {difference:e}", tensor.name);
        }
    }
}

fn config(loss: Loss, adaptor_rule: Rule, discriminator_rule: Rule) -> TrainConfig {
    TrainConfig {
        epochs: 1,
        batch_images: 1,
        noise: 0.1,
        loss,
        adaptor_optimizer: optimizer(adaptor_rule, 1e-3, 0.02),
        discriminator_optimizer: optimizer(discriminator_rule, 3e-3, 0.01),
        precision: Precision::F32,
    }
}

#[test]
fn the_fast_step_is_the_plain_step() {
    let asymmetric = Loss::TruncatedL1 {
        positive_margin: 0.7,
        negative_margin: -0.2,
    };
    for adaptor in ADAPTORS {
        compare(adaptor, [150, 9, 21], &config(TRUNCATED, Rule::AdamW, Rule::Adam), 1);
        compare(adaptor, [65, 17, 5], &config(asymmetric, Rule::Adam, Rule::AdamW), 2);
        compare(
            adaptor,
            [64, 3, 70],
            &config(Loss::CrossEntropy, Rule::AdamW, Rule::AdamW),
            3,
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn on_any_size(rows in 2_usize..140, dim in 1_usize..20, hidden in 1_usize..40, which in 0_usize..4, seed in 0_u64..1000) {
        compare(ADAPTORS[which], [rows, dim, hidden], &config(TRUNCATED, Rule::AdamW, Rule::Adam), seed);
    }

    /// Folding changes nothing but rounding, and a row's score does not depend on the rows around it.
    #[test]
    fn scores_are_those_of_single_rows(rows in 1_usize..90, dim in 1_usize..20, hidden in 1_usize..40, which in 0_usize..4) {
        let head = head::<f32>(dim, hidden, ADAPTORS[which], 5);
        let features = crate::support::floats(rows * dim, 6);
        let scorer = head.scorer().expect("a scorer");
        let together = scorer.score(&features).expect("scores");
        let alone: Vec<f32> = features.chunks_exact(dim).flat_map(|row| scorer.score(row).expect("a score")).collect();
        prop_assert!(largest_difference(&together, &alone) < 1e-6);
    }
}
