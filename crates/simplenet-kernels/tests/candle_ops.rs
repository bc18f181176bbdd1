//! The kernels as candle operations, on candle's processor device, against the functions that they call and against the same
//! made of candle's own operations.

use candle_core::{DType, Device, Result, Tensor, Var};
use proptest::prelude::*;
use simplenet_kernels::adam::AdamConfig;
use simplenet_kernels::candle_ops::{
    ImageLayout, adam_step, add_normal, anomaly_maps, bias_residual_activation, code_embed, discriminator_scores,
    mean_embed, truncated_l1,
};
use simplenet_kernels::graph::Activation;
use simplenet_kernels::noise::{self, NoiseKey};
use simplenet_kernels::{maps, patch_candle};

const KEY: NoiseKey = NoiseKey { seed: 7, stream: 3 };

/// Repeatable values.
fn tensor(shape: &[usize], seed: usize) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor")
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("values")
}

fn largest_difference(found: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(found.dims(), expected.dims());
    let (found, expected) = (numbers(found), numbers(expected));
    found
        .iter()
        .zip(&expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[test]
fn one_to_three_maps_are_embedded() {
    let maps = [
        tensor(&[2, 5, 7, 6], 1),
        tensor(&[2, 8, 4, 3], 2),
        tensor(&[2, 3, 2, 2], 3),
    ];
    for count in 1..=3 {
        for patch in [1, 3, 5] {
            let maps = &maps[..count];
            let found = mean_embed(maps, patch).expect("rows");
            let expected = patch_candle::mean_embed(maps, patch).expect("rows");
            assert!(
                largest_difference(&found, &expected) < 1e-5,
                "mean of {count}, patch {patch}"
            );
            let found = code_embed(maps, patch, 11, 9).expect("rows");
            let expected = patch_candle::code_embed(maps, patch, 11, 9).expect("rows");
            assert!(
                largest_difference(&found, &expected) < 1e-5,
                "code of {count}, patch {patch}"
            );
        }
    }
}

#[test]
fn views_are_read_as_what_they_show() {
    let whole = tensor(&[4, 6, 5, 8], 4);
    let view = whole
        .narrow(0, 1, 2)
        .and_then(|part| part.transpose(2, 3))
        .expect("a view");
    let copy = view.copy().expect("a copy");
    let rows = |map: Tensor| mean_embed(&[map], 3).expect("rows");
    assert_eq!(largest_difference(&rows(view), &rows(copy)), 0.0);
    let scores = tensor(&[3, 4, 5], 5).transpose(1, 2).expect("a view");
    let map = |scores: &Tensor| anomaly_maps(scores, [20, 16], 2.0).expect("maps");
    assert_eq!(
        largest_difference(&map(&scores), &map(&scores.copy().expect("a copy"))),
        0.0
    );
}

#[test]
fn maps_are_those_of_the_function() {
    let scores = tensor(&[2, 5, 9], 6);
    let found = anomaly_maps(&scores, [37, 70], 4.0).expect("maps");
    assert_eq!(found.dims(), [2, 37, 70]);
    let expected = maps::anomaly_maps(&numbers(&scores), [2, 5, 9], [37, 70], 4.0).expect("maps");
    assert_eq!(numbers(&found), expected);
}

#[test]
fn noise_is_added_where_it_belongs() {
    let features = tensor(&[3, 5000], 7);
    let before = numbers(&features);
    // Only the middle row: what a view does not show stays as it is.
    add_normal(&features.narrow(0, 1, 1).expect("a view"), KEY, 0.015).expect("noise");
    let after = numbers(&features);
    let mut noised = before[5000..10_000].to_vec();
    noise::add_normal(&mut noised, &before[5000..10_000], KEY, 0, 0.015).expect("noise");
    assert_eq!(after[5000..10_000], noised);
    assert_eq!((&after[..5000], &after[10_000..]), (&before[..5000], &before[10_000..]));
}

#[test]
fn what_does_not_fit_is_refused() {
    let map = tensor(&[1, 2, 3, 3], 8);
    let error = |result: Result<Tensor>| result.expect_err("a refusal").to_string();
    assert!(error(mean_embed(&[], 3)).contains("0 feature maps"));
    assert!(error(mean_embed(&[map.clone(), map.clone(), map.clone(), map.clone()], 3)).contains("4 feature maps"));
    assert!(error(mean_embed(std::slice::from_ref(&map), 2)).contains("no centre"));
    assert!(error(mean_embed(&[map.to_dtype(DType::F64).expect("f64")], 3)).contains("F64"));
    assert!(error(anomaly_maps(&map, [8, 8], 1.0)).contains("unexpected rank"));
    let turned = tensor(&[4, 6], 9).t().expect("a view");
    let error = add_normal(&turned, KEY, 1.0).expect_err("a refusal").to_string();
    assert!(error.contains("not contiguous"), "{error}");
    let whole = Tensor::zeros(4, DType::U8, &Device::Cpu).expect("a tensor");
    let error = add_normal(&whole, KEY, 1.0).expect_err("a refusal").to_string();
    assert!(error.contains("U8"), "{error}");
}

/// Random values: those of [`tensor`] are on a grid, where a comparison can be a tie.
fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut values = vec![0.0; shape.iter().product()];
    noise::fill_normal(&mut values, NoiseKey { seed, stream: 1 }, 0, 1.0);
    Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor")
}

/// L2 distance relative to the expected values.
fn distance(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let (found, expected) = (numbers(found), numbers(expected));
    let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x) * f64::from(x)).sum::<f64>();
    let difference = squares(&mut found.iter().zip(&expected).map(|(a, b)| a - b));
    (difference / squares(&mut expected.iter().copied()).max(1e-12)).sqrt()
}

fn epilogue_of_candle(
    x: &Tensor,
    bias: &Tensor,
    residual: Option<&Tensor>,
    activation: Activation,
    layout: ImageLayout,
) -> Result<Tensor> {
    let bias = match layout {
        ImageLayout::ChannelsFirst => bias.reshape((1, (), 1, 1))?,
        ImageLayout::ChannelsLast => bias.reshape((1, 1, 1, ()))?,
    };
    let mut sum = x.broadcast_add(&bias)?;
    if let Some(residual) = residual {
        sum = (sum + residual)?;
    }
    match activation {
        Activation::Linear => Ok(sum),
        Activation::Relu => sum.relu(),
        Activation::Relu6 => sum.clamp(0_f32, 6_f32),
    }
}

fn epilogue_is_that_of_candle(dims: [usize; 4], layout: ImageLayout, activation: Activation, with_residual: bool) {
    let x = (tensor(&dims, 1) * 8.0).expect("a tensor");
    let channels = match layout {
        ImageLayout::ChannelsFirst => dims[1],
        ImageLayout::ChannelsLast => dims[3],
    };
    let bias = tensor(&[channels], 2);
    let residual = tensor(&dims, 3);
    let residual = with_residual.then_some(&residual);
    let found = bias_residual_activation(&x, &bias, residual, activation, layout).expect("a result");
    let expected = epilogue_of_candle(&x, &bias, residual, activation, layout).expect("a result");
    assert_eq!(found.dims(), expected.dims());
    assert_eq!(
        numbers(&found),
        numbers(&expected),
        "{dims:?} {layout:?} {activation:?}"
    );
}

const LAYOUTS: [ImageLayout; 2] = [ImageLayout::ChannelsFirst, ImageLayout::ChannelsLast];
const ACTIVATIONS: [Activation; 3] = [Activation::Linear, Activation::Relu, Activation::Relu6];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn bias_residual_and_activation_are_one_pass_over_any_shape(
        dims in [1..3_usize, 1..9_usize, 1..9_usize, 1..9_usize],
        layout in prop::sample::select(&LAYOUTS[..]),
        activation in prop::sample::select(&ACTIVATIONS[..]),
        with_residual: bool,
    ) {
        epilogue_is_that_of_candle(dims, layout, activation, with_residual);
    }

    #[test]
    fn truncated_l1_is_its_definition_and_so_is_its_gradient(
        rows in 1..50_usize,
        seed in 0..1000_u64,
        th_plus in -0.5..1.0_f64,
        th_minus in -1.0..0.5_f64,
    ) {
        let scores = [random(&[rows], 2 * seed), random(&[rows], 2 * seed + 1)];
        let [normal, noised] = scores.each_ref().map(|scores| Var::from_tensor(scores).expect("a variable"));
        let plain = |normal: &Tensor, noised: &Tensor| -> Result<Tensor> {
            let below = normal.affine(-1.0, th_plus)?.relu()?;
            let above = noised.affine(1.0, -th_minus)?.relu()?;
            below.mean_all()? + above.mean_all()?
        };
        let found = truncated_l1(&normal, &noised, th_plus, th_minus).expect("a loss");
        let expected = plain(&normal, &noised).expect("a loss");
        prop_assert!(largest_difference(&found, &expected) < 1e-5);
        let [found, expected] = [found, expected].map(|loss| (loss * 3.0).and_then(|loss| loss.backward()).expect("gradients"));
        for variable in [&normal, &noised] {
            let [found, expected] = [&found, &expected].map(|gradients| gradients.get(variable).expect("a gradient"));
            prop_assert!(largest_difference(found, expected) < 1e-6);
        }
    }
}

#[test]
fn large_images_are_shared_out_in_whole_planes_and_rows() {
    for layout in LAYOUTS {
        epilogue_is_that_of_candle([2, 37, 67, 13], layout, Activation::Relu, true);
        epilogue_is_that_of_candle([3, 20_000, 1, 1], layout, Activation::Relu6, false);
        epilogue_is_that_of_candle([1, 2, 150, 150], layout, Activation::Linear, false);
    }
    let x = Tensor::new(&[[[[f32::NAN, -1.0]]]], &Device::Cpu).expect("a tensor");
    let bias = tensor(&[2], 1);
    let out = bias_residual_activation(&x, &bias, None, Activation::Relu6, ImageLayout::ChannelsLast);
    let out = numbers(&out.expect("a result"));
    assert!(out[0].is_nan() && out[1] == 0.0, "{out:?}");
}

const EPSILON: f64 = 1e-5;
const SLOPE: f64 = 0.2;

/// The definition in candle's own operations.
fn scores_of_candle(z: &Tensor, [gamma, beta, output]: [&Tensor; 3]) -> Result<Tensor> {
    let centred = z.broadcast_sub(&z.mean_keepdim(0)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(0)? + EPSILON)?.sqrt()?;
    let normalised = centred.broadcast_div(&deviation)?;
    let before = normalised.broadcast_mul(gamma)?.broadcast_add(beta)?;
    let leaky = (before.relu()? - (before.neg()?.relu()? * SLOPE)?)?;
    leaky.broadcast_mul(output)?.sum(1)
}

/// `z`, γ, β and the last layer.
fn head(rows: usize, hidden: usize) -> [Var; 4] {
    let z = (random(&[rows, hidden], 1) * 1.7).and_then(|z| z + 0.3).expect("z");
    let gamma = (random(&[hidden], 2) + 1.0).expect("γ");
    [z, gamma, random(&[hidden], 3), random(&[hidden], 4)].map(|tensor| Var::from_tensor(&tensor).expect("a variable"))
}

fn scores([z, gamma, beta, output]: [&Tensor; 4]) -> Result<Tensor> {
    discriminator_scores(z, gamma, beta, output, EPSILON, SLOPE)
}

#[test]
fn discriminator_scores_and_their_gradients_are_those_of_plain_operations() {
    for (rows, hidden) in [(1, 1), (2, 3), (7, 16), (65, 17), (130, 33), (1500, 5), (3, 100)] {
        let variables = head(rows, hidden);
        let [z, gamma, beta, output] = variables.each_ref().map(Var::as_tensor);
        let found = scores([z, gamma, beta, output]).expect("scores");
        let expected = scores_of_candle(z, [gamma, beta, output]).expect("scores");
        let apart = distance(&found, &expected);
        assert!(apart < 1e-5, "scores of {rows} rows of {hidden}: {apart:e}");
        let weights = random(&[rows], 5);
        let [found, expected] = [found, expected].map(|scores| {
            let loss = (scores * &weights).and_then(|product| product.sum_all());
            loss.and_then(|loss| loss.backward()).expect("gradients")
        });
        for (name, variable) in ["z", "γ", "β", "the last layer"].iter().zip(&variables) {
            let [found, expected] = [&found, &expected].map(|gradients| gradients.get(variable).expect("a gradient"));
            // The gradient of one row's z is 0, and what autograd finds is its rounding.
            let apart = match rows {
                1 => f64::from(largest_difference(found, expected)),
                _ => distance(found, expected),
            };
            assert!(apart < 1e-4, "{name} of {rows} rows of {hidden}: {apart:e}");
        }
    }
}

// 700 rows are several tasks.
#[test]
fn any_number_of_threads_finds_the_same_scores_and_gradients() {
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads");
        pool.install(|| {
            let variables = head(700, 37);
            let found = scores(variables.each_ref().map(Var::as_tensor)).expect("scores");
            let gradients = found.sqr().and_then(|squares| squares.backward()).expect("gradients");
            let gradients = variables
                .each_ref()
                .map(|of| numbers(gradients.get(of).expect("a gradient")));
            (numbers(&found), gradients)
        })
    };
    let alone = with_threads(1);
    for threads in [2, 3, 5] {
        assert!(with_threads(threads) == alone, "{threads} threads");
    }
}

#[test]
fn gradients_flow_to_what_is_a_variable_alone() {
    let variables = head(9, 4);
    let [z, gamma, beta, output] = variables.each_ref().map(Var::as_tensor);
    let all = scores([z, gamma, beta, output])
        .and_then(|scores| scores.backward())
        .expect("gradients");
    let some = scores([&z.detach(), gamma, &beta.detach(), output]);
    let some = some.and_then(|scores| scores.backward()).expect("gradients");
    assert!(some.get(z).is_none() && some.get(beta).is_none());
    for variable in [gamma, output] {
        let [found, expected] = [&some, &all].map(|gradients| numbers(gradients.get(variable).expect("a gradient")));
        assert_eq!(found, expected);
    }
}

#[test]
fn a_large_mean_costs_no_digits_and_an_infinity_shows() {
    let [z, gamma, beta, output] = head(200, 6).map(Var::into_inner);
    // Multiples of 2⁻¹⁰, so that the sum with the mean is exact.
    let z = (z * 1024.0)
        .and_then(|z| z.round())
        .and_then(|z| z / 1024.0)
        .expect("z");
    let far = (&z + 4096.0).expect("z");
    let [near, far] = [&z, &far].map(|z| scores([z, &gamma, &beta, &output]).expect("scores"));
    let apart = distance(&far, &near);
    assert!(apart < 1e-3, "{apart:e}");
    let mut values = numbers(&z);
    values[9] = f32::INFINITY;
    let z = Tensor::from_vec(values, z.dims(), &Device::Cpu).expect("a tensor");
    let found = numbers(&scores([&z, &gamma, &beta, &output]).expect("scores"));
    assert!(found.iter().all(|score| score.is_nan()));
}

#[test]
fn the_loss_at_a_margin_has_a_gradient_and_not_a_number_shows() {
    let on_margin = [0.5_f32, -0.5].map(|margin| Var::new(&[margin], &Device::Cpu).expect("a variable"));
    let [normal, noised] = &on_margin;
    let gradients = truncated_l1(normal, noised, 0.5, -0.5)
        .and_then(|loss| loss.backward())
        .expect("gradients");
    let of = |variable| numbers(gradients.get(variable).expect("a gradient"));
    assert_eq!((of(normal), of(noised)), (vec![-1.0], vec![1.0]));
    let unknown = Tensor::new(&[f32::NAN], &Device::Cpu).expect("a tensor");
    for [normal, noised] in [[normal, &unknown], [&unknown, noised]] {
        let loss = truncated_l1(normal, noised, 0.5, -0.5).expect("a loss");
        assert!(numbers(&loss)[0].is_nan());
    }
}

/// PyTorch's documentation of `torch.optim.Adam` and `AdamW`, in f64.
fn slow_adam(parameter: &mut f64, gradient: f64, [m, v]: [&mut f64; 2], step: i32, config: &AdamConfig) {
    let mut gradient = gradient;
    if config.decoupled {
        *parameter -= config.lr * config.weight_decay * *parameter;
    } else {
        gradient += config.weight_decay * *parameter;
    }
    *m = config.beta1 * *m + (1.0 - config.beta1) * gradient;
    *v = config.beta2 * *v + (1.0 - config.beta2) * gradient * gradient;
    let corrected = [
        *m / (1.0 - config.beta1.powi(step)),
        *v / (1.0 - config.beta2.powi(step)),
    ];
    *parameter -= config.lr * corrected[0] / (corrected[1].sqrt() + config.eps);
}

#[test]
fn adam_and_adamw_are_their_definitions() {
    let plain = AdamConfig {
        lr: 0.01,
        ..AdamConfig::default()
    };
    let decayed = AdamConfig {
        beta1: 0.8,
        beta2: 0.9,
        eps: 1e-3,
        weight_decay: 0.1,
        ..plain
    };
    let decoupled = AdamConfig {
        decoupled: true,
        ..decayed
    };
    // More values than one task takes.
    let shape = [3, 3001];
    for config in [plain, decayed, decoupled] {
        let parameter = Var::from_tensor(&random(&shape, 1)).expect("a variable");
        let [m, v] = [0, 1].map(|_| parameter.zeros_like().expect("moments"));
        let wide = |tensor: &Tensor| numbers(tensor).into_iter().map(f64::from).collect::<Vec<_>>();
        let mut expected = wide(&parameter);
        let mut moments = vec![[0.0, 0.0]; expected.len()];
        for step in 1..=7 {
            let gradient = random(&shape, 1 + step as u64);
            adam_step(&parameter, &gradient, &m, &v, step, &config).expect("an update");
            for ((parameter, gradient), moments) in expected.iter_mut().zip(wide(&gradient)).zip(&mut moments) {
                slow_adam(parameter, gradient, moments.each_mut(), step as i32, &config);
            }
        }
        let narrow = |values: Vec<f64>| {
            let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
            Tensor::from_vec(values, &shape, &Device::Cpu).expect("a tensor")
        };
        let of = |which: usize| narrow(moments.iter().map(|moments| moments[which]).collect());
        for (found, expected) in [(parameter.as_tensor(), narrow(expected)), (&m, of(0)), (&v, of(1))] {
            let apart = distance(found, &expected);
            assert!(apart < 1e-6, "{config:?}: {apart:e}");
        }
    }
}

#[test]
fn adam_changes_what_a_view_shows() {
    let whole = tensor(&[3, 4], 1);
    let before = numbers(&whole);
    let row = whole.narrow(0, 1, 1).expect("a view");
    let [m, v, gradient] = [0, 0, 1].map(|value| Tensor::full(value as f32, (1, 4), &Device::Cpu).expect("a tensor"));
    adam_step(&row, &gradient, &m, &v, 1, &AdamConfig::default()).expect("an update");
    let after = numbers(&whole);
    assert_eq!((&after[..4], &after[8..]), (&before[..4], &before[8..]));
    assert!(
        after[4..8]
            .iter()
            .zip(&before[4..8])
            .all(|(after, before)| after < before)
    );
}

#[test]
fn operations_of_a_training_refuse_what_does_not_fit() {
    let says = |result: Result<Tensor>, parts: &[&str]| {
        let error = result.expect_err("a refusal").to_string();
        for part in parts {
            assert!(error.contains(part), "`{error}` does not say `{part}`");
        }
    };
    let x = tensor(&[2, 3, 4, 5], 1);
    let epilogue = |x: &Tensor, bias: &Tensor, residual: Option<&Tensor>| {
        bias_residual_activation(x, bias, residual, Activation::Relu, ImageLayout::ChannelsFirst)
    };
    let bias = tensor(&[3], 2);
    says(
        epilogue(&x, &tensor(&[5], 2), None),
        &["[5]", "[2, 3, 4, 5]", "3 channels", "hint"],
    );
    says(
        epilogue(&x, &bias, Some(&bias)),
        &["residual", "[3]", "[2, 3, 4, 5]", "hint"],
    );
    says(
        epilogue(&x.get(0).expect("an image"), &bias, None),
        &["unexpected rank"],
    );
    let turned = x.transpose(2, 3).expect("a view");
    says(
        epilogue(&turned, &bias, None),
        &["not contiguous", "[2, 3, 5, 4]", "hint"],
    );
    says(epilogue(&x.to_dtype(DType::F64).expect("f64"), &bias, None), &["F64"]);

    let variables = head(6, 4);
    let [z, gamma, beta, output] = variables.each_ref().map(Var::as_tensor);
    says(
        scores([z, &tensor(&[5], 1), beta, output]),
        &["γ", "[5]", "[4]", "hint"],
    );
    says(scores([z, gamma, beta, z]), &["last layer", "[6, 4]", "[4]", "hint"]);
    says(scores([&z.t().expect("a view"), z, z, z]), &["γ", "[6, 4]", "[6]"]);
    let square = tensor(&[4, 4], 1).t().expect("a view");
    says(scores([&square, gamma, beta, output]), &["not contiguous", "hint"]);
    let none = Tensor::zeros((0, 4), DType::F32, &Device::Cpu).expect("a tensor");
    says(scores([&none, gamma, beta, output]), &["0 rows", "hint"]);
    for epsilon in [-1.0, f64::NAN] {
        says(
            discriminator_scores(z, gamma, beta, output, epsilon, SLOPE),
            &["epsilon", "hint"],
        );
    }

    let loss = |normal: &Tensor, noised: &Tensor| truncated_l1(normal, noised, 0.5, -0.5);
    says(loss(gamma, &bias), &["noised", "[3]", "[4]", "hint"]);
    says(loss(z, z), &["unexpected rank"]);
    let none = none.flatten_all().expect("nothing");
    says(loss(&none, &none), &["0 scores", "hint"]);

    let [m, v] = [0, 1].map(|_| gamma.zeros_like().expect("moments"));
    let adam = |tensors: [&Tensor; 4], step, config: &AdamConfig| {
        let [parameter, gradient, m, v] = tensors;
        adam_step(parameter, gradient, m, v, step, config).map(|()| parameter.clone())
    };
    let config = AdamConfig::default();
    says(
        adam([gamma, &bias, &m, &v], 1, &config),
        &["gradient", "[3]", "[4]", "hint"],
    );
    says(
        adam([gamma, beta, &m, &bias], 1, &config),
        &["v has", "[3]", "[4]", "hint"],
    );
    says(
        adam([gamma, beta, &m, &m], 1, &config),
        &["m and v", "one tensor", "hint"],
    );
    says(
        adam([gamma, gamma, &m, &v], 1, &config),
        &["the parameter and the gradient", "hint"],
    );
    says(adam([gamma, beta, &m, &v], 0, &config), &["step is 0", "hint"]);
    let wrong = AdamConfig { beta2: 1.0, ..config };
    says(adam([gamma, beta, &m, &v], 1, &wrong), &["beta2 is 1", "hint"]);
    let wrong = AdamConfig { lr: f64::NAN, ..config };
    says(adam([gamma, beta, &m, &v], 1, &wrong), &["lr is NaN", "hint"]);
    let whole = Tensor::zeros(4, DType::U8, &Device::Cpu).expect("a tensor");
    says(adam([&whole, beta, &m, &v], 1, &config), &["U8"]);
    says(
        adam(
            [&square, &tensor(&[4, 4], 2), &tensor(&[4, 4], 3), &tensor(&[4, 4], 4)],
            1,
            &config,
        ),
        &["not contiguous"],
    );
}
