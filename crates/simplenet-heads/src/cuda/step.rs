//! One training step on the GPU: [`crate::Step`] as a list of launches, captured once.

use std::ops::Range;

use simplenet_kernels::cuda::hidden::{self, Adam, AdamRule, Counters, Loss, LossKind, Parameters, Sweeps, TOTALS};
use simplenet_kernels::cuda::noise::{Source, gather};
use simplenet_kernels::cuda::{Buffer, LaunchGraph, Math, Matrix, Span, gemm};
use simplenet_kernels::gemm::Accumulate;

use super::bank::DeviceBank;
use super::head::DeviceHead;
use super::products::Product;
use crate::config::{self, HeadConfig, Optimizer, Rule, TrainConfig};
use crate::error::{Error, Result};
use crate::loss::StepReport;
use crate::random::NOISE_PURPOSE;

/// The state of a training on the GPU that lies outside the head: optimiser, gradients, every buffer, the launch lists.
///
/// The symbols are those of [`crate::Step`], and so is the reassociation of the products.
pub struct DeviceStep<'a, T: Product> {
    /// Both stay where they are while this lives: the launch lists hold their addresses.
    head: &'a DeviceHead,
    bank: &'a DeviceBank,
    math: Math,
    train: TrainConfig,
    seed: u64,
    batch_images: usize,
    rows_per_image: usize,
    adam: Adam,
    gradients: Buffer<f32>,
    /// The parameters as factors of products, where those are not f32.
    copy: Option<Buffer<T>>,
    /// The first layer's bias with what went through it.
    bias: Buffer<f32>,
    features: Buffer<T>,
    noise: Buffer<T>,
    z: Buffer<f32>,
    e: Buffer<f32>,
    /// Gradients of both, where those are not f32 and take their place.
    back: Option<[Buffer<T>; 2]>,
    /// W A and G, `[hidden, dim]`.
    folded: Buffer<T>,
    product: Buffer<T>,
    inner: Option<Inner<T>>,
    sweeps: Sweeps,
    order: Buffer<i32>,
    /// Images of the order that no step has seen.
    left: usize,
    counters: Counters,
    /// A launch list for each number of images that a step has had.
    captured: Vec<(usize, LaunchGraph)>,
}

/// u and du of a two-layer adaptor, `[rows, dim]`.
struct Inner<T> {
    values: Buffer<f32>,
    gradient: Buffer<f32>,
    /// Both as factors, where those are not f32.
    copies: Option<[Buffer<T>; 2]>,
    partials: Buffer<f32>,
}

impl<'a, T: Product> DeviceStep<'a, T> {
    /// Everything for training `head` on `bank`, which lie on one GPU.
    ///
    /// # Errors
    /// Where the configuration makes no sense, [`Error::Dim`] where bank and head differ in channels, [`Error::OtherGpu`] where
    /// they lie on different ones, or the device has no room.
    pub fn new(
        head: &'a DeviceHead,
        bank: &'a DeviceBank,
        train: &TrainConfig,
        math: Math,
        seed: u64,
    ) -> Result<DeviceStep<'a, T>> {
        train.check()?;
        head.expect_bank(bank)?;
        let gpu = &head.gpu;
        let HeadConfig { dim, hidden, .. } = head.config;
        let batch_images = train.batch_images.min(bank.images());
        let rows = batch_images * bank.rows_per_image();
        let layout = &head.layout;
        let rule = |optimizer: Optimizer| {
            AdamRule::new(
                optimizer.learning_rate,
                optimizer.weight_decay,
                optimizer.rule == Rule::AdamW,
            )
        };
        let rules = [rule(train.adaptor_optimizer), rule(train.discriminator_optimizer)];
        let folds = usize::from(!layout.adaptor.is_empty()) * hidden * dim;
        let copy = match T::COPIES {
            false => None,
            true => Some(gpu.zeros(layout.len())?),
        };
        let back = match T::COPIES {
            false => None,
            true => Some([gpu.zeros(rows * hidden)?, gpu.zeros(rows * hidden)?]),
        };
        let inner = match layout.adaptor.len() {
            2 => Some(Inner {
                values: gpu.zeros(rows * dim)?,
                gradient: gpu.zeros(rows * dim)?,
                copies: match T::COPIES {
                    false => None,
                    true => Some([gpu.zeros(rows * dim)?, gpu.zeros(rows * dim)?]),
                },
                partials: gpu.zeros(hidden::inner_partials(rows, dim))?,
            }),
            _ => None,
        };
        let step = DeviceStep {
            head,
            bank,
            math,
            train: *train,
            seed,
            batch_images,
            rows_per_image: bank.rows_per_image(),
            adam: Adam::new(gpu, rules, layout.adaptor_len(), layout.len())?,
            gradients: gpu.zeros(layout.len())?,
            copy,
            bias: gpu.zeros(hidden)?,
            features: gpu.zeros(rows * dim)?,
            noise: gpu.zeros(rows * dim)?,
            z: gpu.zeros(rows * hidden)?,
            e: gpu.zeros(rows * hidden)?,
            back,
            folded: gpu.zeros(folds)?,
            product: gpu.zeros(folds)?,
            inner,
            sweeps: Sweeps::new(gpu, rows, hidden)?,
            order: gpu.zeros(bank.images())?,
            left: 0,
            counters: Counters::new(gpu)?,
            captured: Vec::new(),
        };
        if let Some(copy) = &step.copy {
            simplenet_kernels::cuda::noise::standardize(gpu, head.parameters.all(), 1, None, copy.all())?;
        }
        Ok(step)
    }

    /// Images of an epoch.
    pub fn images(&self) -> usize {
        self.bank.images()
    }

    /// Images of a whole step.
    pub fn batch_images(&self) -> usize {
        self.batch_images
    }

    /// Begins an epoch that sees the images in `order`.
    ///
    /// # Errors
    /// [`Error::Order`] where `order` does not name every image of the bank once.
    pub fn begin_epoch(&mut self, order: &[usize]) -> Result<()> {
        let order = checked(order, self.bank.images())?;
        let gpu = &self.head.gpu;
        // Until all of it is there, there is no epoch.
        self.left = 0;
        gpu.write(self.order.all(), &order)?;
        gpu.write(self.counters.progress.range(1..2), &[0])?;
        gpu.clear(self.counters.totals.all())?;
        self.left = order.len();
        Ok(())
    }

    /// A step on the next `images` images of the order, whose share of the epoch is `images / all images`; does not wait.
    ///
    /// # Errors
    /// [`Error::NoSuchStep`] where the epoch has fewer images left or a step takes fewer, and where the device fails.
    #[expect(unsafe_code, reason = "a launch list holds addresses only")]
    pub fn run(&mut self, images: usize) -> Result<()> {
        if images == 0 || images > self.left.min(self.batch_images) {
            return Err(Error::NoSuchStep {
                images,
                left: self.left,
                most: self.batch_images,
            });
        }
        self.left -= images;
        if let Some((_, captured)) = self.captured.iter().find(|(size, _)| *size == images) {
            // SAFETY: the launches use buffers of this step, of the head and of the bank, all of which are there; the images
            // that `gather` reads are left in an order that `begin_epoch` has checked.
            return Ok(unsafe { captured.launch() }?);
        }
        // The first step of a size runs launch by launch: it loads the kernels, which a capture must not.
        self.enqueue(images)?;
        let captured = self
            .head
            .gpu
            .capture(|| self.enqueue(images).map_err(into_device_error))?;
        self.captured.push((images, captured));
        Ok(())
    }

    /// What the epoch found out so far, averaged over the shares of its steps; waits for the device.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn report(&self) -> Result<StepReport> {
        let totals = self.head.gpu.download(self.counters.totals.all())?;
        let [loss, mean_normal, mean_noised, normal_past_margin, noised_past_margin] = totals[..] else {
            unreachable!("{TOTALS} totals");
        };
        Ok(StepReport {
            loss,
            mean_normal,
            mean_noised,
            normal_past_margin,
            noised_past_margin,
        })
    }

    /// The last step's gradients, tensor by tensor in the order of [`crate::Step::gradients`]; waits for the device.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn gradients(&self) -> Result<Vec<Vec<f32>>> {
        let download = |place: &Range<usize>| Ok(self.head.gpu.download(self.gradient(place))?);
        self.head
            .layout
            .entries
            .iter()
            .map(|entry| download(&entry.place))
            .collect()
    }

    /// The launches of a step, after [`DeviceStep::run`] has seen that the order has the images.
    #[expect(unsafe_code, reason = "only the device knows which images a step reads")]
    fn enqueue(&self, images: usize) -> Result<()> {
        let (head, bank) = (self.head, self.bank);
        let gpu = &head.gpu;
        let HeadConfig { dim, hidden, .. } = head.config;
        let rows = images * self.rows_per_image;
        let (features, noise) = (self.features.range(0..rows * dim), self.noise.range(0..rows * dim));
        let source = Source {
            bank: bank.slot(0, bank.images()),
            image_size: self.rows_per_image * dim,
            dim,
            order: self.order.all(),
            standardizer: head.standardizer.as_ref(),
            seed: self.seed,
            purpose: NOISE_PURPOSE,
            sigma: self.train.noise as f32,
        };
        // SAFETY: as in `run`; `Sweeps::end`, below, moves the progress on by as many images as `run` takes off.
        unsafe { gather(gpu, &source, &self.counters.progress, features, noise) }?;
        let (features, noise) = (Matrix::new(features, rows, dim)?, Matrix::new(noise, rows, dim)?);
        let pre_activations = [self.z.range(0..rows * hidden), self.e.range(0..rows * hidden)];
        self.forward(features, noise, rows)?;

        let layout = &head.layout;
        let loss = Loss::new(kind(self.train.loss), self.train.loss.margins().into(), rows);
        let parameters = Parameters {
            gamma: head.parameter(&layout.bn_weight),
            beta: head.parameter(&layout.bn_bias),
            output: head.parameter(&layout.fc2_weight),
        };
        let gradients = Parameters {
            gamma: self.gradient(&layout.bn_weight),
            beta: self.gradient(&layout.bn_bias),
            output: self.gradient(&layout.fc2_weight),
        };
        let last_bias = layout.adaptor.last().and_then(|last| last.bias.as_ref());
        hidden::fold_bias(
            gpu,
            head.parameter(&layout.fc1_bias),
            head.parameter(&layout.fc1_weight),
            last_bias.map(|bias| head.parameter(bias)),
            self.bias.all(),
        )?;
        let running = [head.running_mean.all(), head.running_var.all()];
        self.sweeps
            .statistics(gpu, pre_activations, parameters.gamma, self.bias.all(), running)?;
        self.sweeps.scores(gpu, pre_activations, parameters, loss, gradients)?;
        let back = self.back(rows * hidden);
        self.sweeps.back(gpu, pre_activations, parameters.beta, loss, back)?;
        self.backward(features, noise, back, rows)?;

        let copy = self.copy.as_ref().map(Buffer::all);
        self.adam
            .update(gpu, head.parameters.all(), self.gradients.all(), copy)?;
        let share = images as f64 / bank.images() as f64;
        self.sweeps
            .end(gpu, loss, share, &self.counters, &self.adam, [images, rows])?;
        Ok(())
    }

    /// z and e of this batch.
    fn forward(&self, features: Matrix<'_, T>, noise: Matrix<'_, T>, rows: usize) -> Result<()> {
        let head = self.head;
        let (gpu, math, layout) = (&head.gpu, self.math, &head.layout);
        let HeadConfig { dim, hidden, .. } = head.config;
        let first = Matrix::new(self.weight(&layout.fc1_weight), hidden, dim)?;
        let z = Matrix::new(self.z.range(0..rows * hidden), rows, hidden)?;
        let e = Matrix::new(self.e.range(0..rows * hidden), rows, hidden)?;
        gemm(gpu, math, noise, first.t(), e, Accumulate::Overwrite)?;
        let Some(last) = layout.adaptor.last() else {
            return Ok(gemm(gpu, math, features, first.t(), z, Accumulate::Overwrite)?);
        };
        let adaptor = Matrix::new(self.weight(&last.weight), dim, dim)?;
        let folded = Matrix::new(self.folded.all(), hidden, dim)?;
        gemm(gpu, math, first, adaptor, folded, Accumulate::Overwrite)?;
        let mut input = features;
        if let Some(inner) = &self.inner {
            let layer = &layout.adaptor[0];
            let weight = Matrix::new(self.weight(&layer.weight), dim, dim)?;
            let values = inner.values.range(0..rows * dim);
            gemm(
                gpu,
                math,
                features,
                weight.t(),
                Matrix::new(values, rows, dim)?,
                Accumulate::Overwrite,
            )?;
            let bias = layer.bias.as_ref().map(|bias| head.parameter(bias));
            let copy = inner.activations(rows * dim);
            hidden::inner_forward(gpu, values, bias, copy, dim)?;
            input = Matrix::new(copy, rows, dim)?;
        }
        gemm(gpu, math, input, folded.t(), z, Accumulate::Overwrite)?;
        Ok(())
    }

    /// Weight gradients from those of the pre-activations: the sum of both, and that of the noised rows.
    fn backward(
        &self,
        features: Matrix<'_, T>,
        noise: Matrix<'_, T>,
        [sum, noised]: [Span<'_, T>; 2],
        rows: usize,
    ) -> Result<()> {
        let head = self.head;
        let (gpu, math, layout) = (&head.gpu, self.math, &head.layout);
        let HeadConfig { dim, hidden, .. } = head.config;
        let (sum, noised) = (Matrix::new(sum, rows, hidden)?, Matrix::new(noised, rows, hidden)?);
        let into_first = Matrix::new(self.gradient(&layout.fc1_weight), hidden, dim)?;
        gemm(gpu, math, noised.t(), noise, into_first, Accumulate::Overwrite)?;
        let Some(last) = layout.adaptor.last() else {
            return Ok(gemm(gpu, math, sum.t(), features, into_first, Accumulate::Add)?);
        };
        let input = match &self.inner {
            Some(inner) => Matrix::new(inner.activations(rows * dim), rows, dim)?,
            None => features,
        };
        let product = Matrix::new(self.product.all(), hidden, dim)?;
        gemm(gpu, math, sum.t(), input, product, Accumulate::Overwrite)?;
        let adaptor = Matrix::new(self.weight(&last.weight), dim, dim)?;
        gemm(gpu, math, product, adaptor.t(), into_first, Accumulate::Add)?;
        let first = Matrix::new(self.weight(&layout.fc1_weight), hidden, dim)?;
        let into_last = Matrix::new(self.gradient(&last.weight), dim, dim)?;
        gemm(gpu, math, first.t(), product, into_last, Accumulate::Overwrite)?;
        let Some(inner) = &self.inner else { return Ok(()) };

        // Two layers: du = (dz + de)(W A), through LeakyReLU.
        let du = inner.gradient.range(0..rows * dim);
        let folded = Matrix::new(self.folded.all(), hidden, dim)?;
        gemm(
            gpu,
            math,
            sum,
            folded,
            Matrix::new(du, rows, dim)?,
            Accumulate::Overwrite,
        )?;
        let layer = &layout.adaptor[0];
        let copy = inner.gradients(rows * dim);
        let values = inner.values.range(0..rows * dim);
        let into_bias = layer.bias.as_ref().map(|bias| self.gradient(bias));
        hidden::inner_back(gpu, du, values, copy, &inner.partials, into_bias, dim)?;
        let into_inner = Matrix::new(self.gradient(&layer.weight), dim, dim)?;
        gemm(
            gpu,
            math,
            Matrix::new(copy, rows, dim)?.t(),
            features,
            into_inner,
            Accumulate::Overwrite,
        )?;
        Ok(())
    }

    /// Some of the gradients.
    fn gradient(&self, place: &Range<usize>) -> Span<'_, f32> {
        self.gradients.range(place.clone())
    }

    /// Some of the parameters as factors.
    fn weight(&self, place: &Range<usize>) -> Span<'_, T> {
        let copy = self.copy.as_ref().map(|copy| copy.range(place.clone()));
        factors(self.head.parameter(place), copy)
    }

    /// Where the gradients of z and e go.
    fn back(&self, len: usize) -> [Span<'_, T>; 2] {
        let copy = |at: usize| self.back.as_ref().map(|back| back[at].range(0..len));
        [
            factors(self.z.range(0..len), copy(0)),
            factors(self.e.range(0..len), copy(1)),
        ]
    }
}

impl<T: Product> Inner<T> {
    fn activations(&self, len: usize) -> Span<'_, T> {
        let copy = self.copies.as_ref().map(|copies| copies[0].range(0..len));
        factors(self.values.range(0..len), copy)
    }

    fn gradients(&self, len: usize) -> Span<'_, T> {
        let copy = self.copies.as_ref().map(|copies| copies[1].range(0..len));
        factors(self.gradient.range(0..len), copy)
    }
}

fn factors<'a, T: Product>(values: Span<'a, f32>, copy: Option<Span<'a, T>>) -> Span<'a, T> {
    T::of(values, copy).expect("a type that copies has its copy")
}

/// An order as the device takes it, where it names each of `images` images once.
fn checked(order: &[usize], images: usize) -> Result<Vec<i32>> {
    let refuse = |fault| Err(Error::Order { images, fault });
    if order.len() != images {
        return refuse(format!("has {} entries", order.len()));
    }
    let mut first = vec![None; images];
    for (at, &image) in order.iter().enumerate() {
        match first.get_mut(image) {
            None => return refuse(format!("names image {image} in entry {at}")),
            Some(Some(before)) => return refuse(format!("names image {image} twice, in entries {before} and {at}")),
            Some(free) => *free = Some(at),
        }
    }
    // An image index is below 2^31: a bank of so many images fits no device.
    Ok(order.iter().map(|&image| image as i32).collect())
}

fn kind(loss: config::Loss) -> LossKind {
    match loss {
        config::Loss::TruncatedL1 { .. } => LossKind::TruncatedL1,
        config::Loss::CrossEntropy => LossKind::CrossEntropy,
    }
}

/// A capture speaks the device's errors.
fn into_device_error(error: crate::Error) -> simplenet_kernels::cuda::DeviceError {
    match error {
        crate::Error::Device(error) => error,
        other => simplenet_kernels::cuda::DeviceError::wrap(other),
    }
}
