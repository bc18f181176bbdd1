//! One training step on the CPU, forward, backward and update, with its derivatives written out.
//!
//! What autograd would compute (t = A u + b, f = t + n, D over both halves with joint batch statistics, loss, gradients by
//! both paths) is reassociated so that nothing of size rows × dim × dim is ever multiplied. With u the input of the
//! adaptor's last layer A, n the noise and W the discriminator's first layer:
//!
//! ```text
//! forward   z = u (W A)ᵀ            e = n Wᵀ           pre-activations: z for normal rows, z + e for noised ones
//! backward  G = (dz + de)ᵀ u        dW = G Aᵀ + deᵀ n        dA = Wᵀ G
//! ```
//!
//! That is 4 rows·hidden·dim + 3 hidden·dim² multiplications, where autograd does 6 rows·hidden·dim + 2 rows·dim² (and
//! another rows·dim² for an input gradient that nobody reads): at the paper's size, 3136 rows, 1536 to 1024, 27 G against
//! 44 G. The bias of the adaptor's last layer and the first layer's own have the gradient 0, because batch norm removes
//! them; autograd finds rounding noise there, which Adam then divides by its own size.

use std::ops::Range;

use rayon::prelude::*;
use simplenet_kernels::engine::Precision;
use simplenet_kernels::gemm::{Accumulate, MatMut, MatRef, gemm_in};

use crate::config::{HeadConfig, TrainConfig};
use crate::error::{Error, Result};
use crate::head::{Head, LEAKY_SLOPE, NamedTensor, count_rows, leaky};
use crate::hidden::{HiddenGradients, HiddenParameters, HiddenSweeps};
use crate::layout::{Layout, Linear};
use crate::loss::{LossGradient, StepReport};
use crate::optimizer::Adam;
use crate::scalar::Scalar;
use crate::sums::{ROWS_PER_PARTIAL, merge, partial_count};

/// The state of a training that lies outside the head: both optimisers, gradients, and every buffer, allocated once.
#[derive(Debug)]
pub struct Step<T: Scalar = f32> {
    head: HeadConfig,
    train: TrainConfig,
    layout: Layout,
    max_rows: usize,
    adaptor_adam: Adam<T>,
    discriminator_adam: Adam<T>,
    gradients: Vec<T>,
    /// z, then the gradient that flows back to it: `[rows, hidden]`.
    z: Vec<T>,
    /// e, likewise.
    e: Vec<T>,
    /// D of the normal rows, then (from `max_rows` on) of the noised ones.
    scores: Vec<T>,
    /// W A and G, `[hidden, dim]`; empty without an adaptor.
    folded: Vec<T>,
    product: Vec<T>,
    /// u and du of a two-layer adaptor, `[rows, dim]`; empty otherwise.
    inner: Vec<T>,
    inner_gradient: Vec<T>,
    inner_partials: Vec<T>,
    sweeps: HiddenSweeps<T>,
    rows: usize,
}

impl<T: Scalar> Step<T> {
    /// Everything for steps of up to `max_rows` normal rows (and as many noised ones).
    ///
    /// # Errors
    /// [`Error::Config`] where a configuration makes no sense or `max_rows` is 0.
    pub fn new(head: &HeadConfig, train: &TrainConfig, max_rows: usize) -> Result<Step<T>> {
        head.check()?;
        train.check()?;
        if max_rows == 0 {
            let (field, value) = ("max_rows".to_string(), 0.0);
            return Err(Error::Config {
                field,
                value,
                expected: "at least 1",
            });
        }
        let layout = Layout::new(head);
        let zeros = |count: usize| vec![T::ZERO; count];
        let folds = usize::from(!layout.adaptor.is_empty()) * head.hidden * head.dim;
        let inner = usize::from(layout.adaptor.len() == 2) * head.dim;
        Ok(Step {
            head: *head,
            train: *train,
            max_rows,
            adaptor_adam: Adam::new(train.adaptor_optimizer, layout.adaptor_len()),
            discriminator_adam: Adam::new(train.discriminator_optimizer, layout.len() - layout.adaptor_len()),
            gradients: zeros(layout.len()),
            z: zeros(max_rows * head.hidden),
            e: zeros(max_rows * head.hidden),
            scores: zeros(2 * max_rows),
            folded: zeros(folds),
            product: zeros(folds),
            inner: zeros(max_rows * inner),
            inner_gradient: zeros(max_rows * inner),
            inner_partials: zeros(partial_count(max_rows) * inner),
            sweeps: HiddenSweeps::new(max_rows, head.hidden),
            layout,
            rows: 0,
        })
    }

    /// Trains `head` for one step on standardised features `[rows, dim]` and the noise `[rows, dim]` that makes the
    /// anomalous ones of them (Eq. 6).
    ///
    /// # Errors
    /// [`Error::Shape`] where the two differ in size, are no whole rows or too many; [`Error::OtherHead`] where the head is
    /// not of the shape that this step was made for.
    pub fn run(&mut self, head: &mut Head<T>, features: &[T], noise: &[T]) -> Result<StepReport> {
        self.rows = self.check(head, features, noise)?;
        self.forward(head, features, noise)?;
        let scores = self.scores.split_at_mut(self.max_rows);
        let (normal, noised) = (&mut scores.0[..self.rows], &mut scores.1[..self.rows]);
        let filled = self.rows * self.head.hidden;
        let (z, e) = (&mut self.z[..filled], &mut self.e[..filled]);
        let loss = LossGradient::new(self.train.loss, self.rows);

        let (layout, parameters) = (&self.layout, &head.parameters);
        let values = |place: &Range<usize>| &parameters[place.clone()];
        let hidden = HiddenParameters {
            gamma: values(&layout.bn_weight),
            beta: values(&layout.bn_bias),
            output: values(&layout.fc2_weight),
        };
        let bias = folded_bias(layout, parameters);
        let running = [&mut head.running_mean[..], &mut head.running_var[..]];
        self.sweeps.statistics(z, e, hidden.gamma, &bias, running);
        let [gamma, beta, output] = disjoint(
            &mut self.gradients,
            [&layout.bn_weight, &layout.bn_bias, &layout.fc2_weight],
        );
        let gradients = HiddenGradients { gamma, beta, output };
        self.sweeps.scores([z, e], hidden, &loss, [normal, noised], gradients);
        let report = self.train.loss.report(normal, noised);
        self.sweeps.back([z, e], hidden.beta, &loss, [normal, noised]);
        self.backward(head, features, noise)?;

        let adaptor = self.layout.adaptor_len();
        let (adaptor_parameters, discriminator_parameters) = head.parameters.split_at_mut(adaptor);
        let (adaptor_gradients, discriminator_gradients) = self.gradients.split_at(adaptor);
        self.adaptor_adam.update(adaptor_parameters, adaptor_gradients);
        self.discriminator_adam
            .update(discriminator_parameters, discriminator_gradients);
        Ok(report)
    }

    /// D of the normal and of the noised rows in the last step, before its update.
    pub fn scores(&self) -> (&[T], &[T]) {
        let (normal, noised) = self.scores.split_at(self.max_rows);
        (&normal[..self.rows], &noised[..self.rows])
    }

    /// The last step's gradients, named as the parameters are, before weight decay.
    pub fn gradients(&self) -> impl Iterator<Item = NamedTensor<'_, T>> {
        self.layout.entries.iter().map(|entry| NamedTensor {
            name: &entry.name,
            shape: entry.shape.clone(),
            data: &self.gradients[entry.place.clone()],
        })
    }

    fn check(&self, head: &Head<T>, features: &[T], noise: &[T]) -> Result<usize> {
        if head.config != self.head {
            return Err(Error::OtherHead {
                found: head.config,
                expected: self.head,
            });
        }
        let rows = count_rows("features", features, self.head.dim)?;
        if rows == 0 || rows > self.max_rows {
            return Err(Error::Shape {
                what: "features".into(),
                found: features.len(),
                expected: format!("1 to {} rows of {}", self.max_rows, self.head.dim),
            });
        }
        if noise.len() != features.len() {
            return Err(Error::Shape {
                what: "noise".into(),
                found: noise.len(),
                expected: format!("{}, as many as the features", features.len()),
            });
        }
        Ok(rows)
    }

    /// z and e of this batch.
    fn forward(&mut self, head: &Head<T>, features: &[T], noise: &[T]) -> Result<()> {
        let HeadConfig { dim, hidden, .. } = self.head;
        let multiply = in_precision(self.train.precision);
        let rows = self.rows;
        let values = |place: &Range<usize>| &head.parameters[place.clone()];
        let features = MatRef::new(features, rows, dim)?;
        let first = MatRef::new(values(&self.layout.fc1_weight), hidden, dim)?;
        let z = MatMut::new(&mut self.z, rows, hidden)?;
        if let Some(last) = self.layout.adaptor.last() {
            let adaptor = MatRef::new(values(&last.weight), dim, dim)?;
            let folded = MatMut::new(&mut self.folded, hidden, dim)?;
            multiply(first, adaptor, folded, Accumulate::Overwrite)?;
            let folded = MatRef::new(&self.folded, hidden, dim)?;
            let mut input = features;
            if self.layout.adaptor.len() == 2 {
                inner_forward(
                    self.train.precision,
                    &self.layout.adaptor[0],
                    &head.parameters,
                    features,
                    &mut self.inner,
                )?;
                input = MatRef::new(&self.inner, rows, dim)?;
            }
            multiply(input, folded.t(), z, Accumulate::Overwrite)?;
        } else {
            multiply(features, first.t(), z, Accumulate::Overwrite)?;
        }
        let e = MatMut::new(&mut self.e, rows, hidden)?;
        multiply(MatRef::new(noise, rows, dim)?, first.t(), e, Accumulate::Overwrite)?;
        Ok(())
    }

    /// Weight gradients from what the sweeps left in z and e.
    fn backward(&mut self, head: &Head<T>, features: &[T], noise: &[T]) -> Result<()> {
        let HeadConfig { dim, hidden, .. } = self.head;
        let multiply = in_precision(self.train.precision);
        let rows = self.rows;
        let layout = &self.layout;
        let values = |place: &Range<usize>| &head.parameters[place.clone()];
        let features = MatRef::new(features, rows, dim)?;
        let back_sum = MatRef::new(&self.z, rows, hidden)?;
        let back_noised = MatRef::new(&self.e, rows, hidden)?;

        let into_first = &mut self.gradients[layout.fc1_weight.clone()];
        let noise = MatRef::new(noise, rows, dim)?;
        multiply(
            back_noised.t(),
            noise,
            MatMut::new(into_first, hidden, dim)?,
            Accumulate::Overwrite,
        )?;
        let Some(last) = layout.adaptor.last() else {
            multiply(
                back_sum.t(),
                features,
                MatMut::new(into_first, hidden, dim)?,
                Accumulate::Add,
            )?;
            return Ok(());
        };

        let input = if layout.adaptor.len() == 2 {
            MatRef::new(&self.inner, rows, dim)?
        } else {
            features
        };
        multiply(
            back_sum.t(),
            input,
            MatMut::new(&mut self.product, hidden, dim)?,
            Accumulate::Overwrite,
        )?;
        let product = MatRef::new(&self.product, hidden, dim)?;
        let adaptor = MatRef::new(values(&last.weight), dim, dim)?;
        multiply(
            product,
            adaptor.t(),
            MatMut::new(into_first, hidden, dim)?,
            Accumulate::Add,
        )?;
        let first = MatRef::new(values(&layout.fc1_weight), hidden, dim)?;
        let into_last = &mut self.gradients[last.weight.clone()];
        multiply(
            first.t(),
            product,
            MatMut::new(into_last, dim, dim)?,
            Accumulate::Overwrite,
        )?;
        if layout.adaptor.len() < 2 {
            return Ok(());
        }

        // Two layers: du = (dz + de)(W A), through LeakyReLU, whose output has the sign of its input.
        let du = &mut self.inner_gradient[..rows * dim];
        let folded = MatRef::new(&self.folded, hidden, dim)?;
        multiply(back_sum, folded, MatMut::new(du, rows, dim)?, Accumulate::Overwrite)?;
        let partials = &mut self.inner_partials[..partial_count(rows) * dim];
        let chunk = ROWS_PER_PARTIAL * dim;
        let work = partials
            .par_chunks_exact_mut(dim)
            .zip(du.par_chunks_mut(chunk).zip(self.inner.par_chunks(chunk)));
        work.for_each(|(sums, (du, u))| {
            sums.fill(T::ZERO);
            for (du, u) in du.chunks_exact_mut(dim).zip(u.chunks_exact(dim)) {
                for ((du, &u), sum) in du.iter_mut().zip(u).zip(sums.iter_mut()) {
                    *du = if u > T::ZERO {
                        *du
                    } else {
                        *du * T::from_f64(LEAKY_SLOPE)
                    };
                    *sum += *du;
                }
            }
        });
        let inner = &layout.adaptor[0];
        if let Some(bias) = &inner.bias {
            let mut totals = vec![0.0; dim];
            merge(partials, &mut totals);
            let gradients = self.gradients[bias.clone()].iter_mut();
            gradients
                .zip(totals)
                .for_each(|(gradient, total)| *gradient = T::from_f64(total));
        }
        let into_inner = &mut self.gradients[inner.weight.clone()];
        let du = MatRef::new(du, rows, dim)?;
        multiply(
            du.t(),
            features,
            MatMut::new(into_inner, dim, dim)?,
            Accumulate::Overwrite,
        )?;
        Ok(())
    }
}

/// Matrix products of one precision.
fn in_precision<T: Scalar>(
    precision: Precision,
) -> impl Fn(MatRef<'_, T>, MatRef<'_, T>, MatMut<'_, T>, Accumulate) -> Result<()> {
    move |a, b, c, accumulate| Ok(gemm_in(precision, a, b, c, accumulate)?)
}

/// u = LeakyReLU(x A₀ᵀ + b₀).
fn inner_forward<T: Scalar>(
    precision: Precision,
    layer: &Linear,
    parameters: &[T],
    features: MatRef<'_, T>,
    out: &mut [T],
) -> Result<()> {
    let (rows, dim) = (features.rows(), features.cols());
    let out = &mut out[..rows * dim];
    let weight = MatRef::new(&parameters[layer.weight.clone()], dim, dim)?;
    gemm_in(
        precision,
        features,
        weight.t(),
        MatMut::new(out, rows, dim)?,
        Accumulate::Overwrite,
    )?;
    let bias = layer.bias.as_ref().map(|bias| &parameters[bias.clone()]);
    out.par_chunks_mut(ROWS_PER_PARTIAL * dim).for_each(|out| {
        for row in out.chunks_exact_mut(dim) {
            match bias {
                Some(bias) => row.iter_mut().zip(bias).for_each(|(x, &bias)| *x = leaky(*x + bias)),
                None => row.iter_mut().for_each(|x| *x = leaky(*x)),
            }
        }
    });
    Ok(())
}

/// What the pre-activations lack: W b + the first layer's bias, for the running mean.
fn folded_bias<T: Scalar>(layout: &Layout, parameters: &[T]) -> Vec<f64> {
    let own = &parameters[layout.fc1_bias.clone()];
    let Some(bias) = layout.adaptor.last().and_then(|last| last.bias.as_ref()) else {
        return own.iter().map(|bias| bias.to_f64()).collect();
    };
    let bias = &parameters[bias.clone()];
    let first = &parameters[layout.fc1_weight.clone()];
    own.par_iter()
        .zip(first.par_chunks_exact(bias.len()))
        .map(|(own, row)| own.to_f64() + row.iter().zip(bias).map(|(w, b)| w.to_f64() * b.to_f64()).sum::<f64>())
        .collect()
}

/// Three slices of one vector, in the order in which they lie there.
fn disjoint<'a, T>(values: &'a mut [T], [first, second, third]: [&Range<usize>; 3]) -> [&'a mut [T]; 3] {
    let (values, third_on) = values.split_at_mut(third.start);
    let (values, second_on) = values.split_at_mut(second.start);
    [
        &mut values[first.clone()],
        &mut second_on[..second.len()],
        &mut third_on[..third.len()],
    ]
}
