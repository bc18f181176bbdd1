//! The resize against Pillow's own bytes and against a slow restatement of Pillow's rule.

use proptest::prelude::*;
use simplenet_data::{Image8, Preprocess, Rgb8, centre_offset, resized_size};

/// One axis of Pillow's bilinear resize on a whole image, output by output; `data` is `[outer, input, inner]`.
fn slow_pass(data: &[u8], input: usize, output: usize, inner: usize) -> Vec<u8> {
    if input == output {
        return data.to_vec();
    }
    let scale = input as f64 / output as f64;
    let support = scale.max(1.0);
    let mut out = Vec::new();
    for plane in data.chunks(input * inner) {
        for o in 0..output {
            let centre = (o as f64 + 0.5) * scale;
            let start = (centre - support + 0.5).trunc().max(0.0) as usize;
            let end = (centre + support + 0.5).trunc().min(input as f64) as usize;
            let weight = |i: usize| (1.0 - ((i as f64 - centre + 0.5) / support).abs()).max(0.0);
            let total: f64 = (start..end).map(weight).sum();
            for k in 0..inner {
                let mut sum = 1_i64 << 21;
                for i in start..end {
                    let rounded = (weight(i) / total * f64::from(1 << 22) + 0.5).floor() as i64;
                    sum += rounded * i64::from(plane[i * inner + k]);
                }
                out.push((sum >> 22).clamp(0, 255) as u8);
            }
        }
    }
    out
}

fn slow_resize<const C: usize>(image: &Image8<C>, width: usize, height: usize) -> Vec<u8> {
    let narrow = slow_pass(image.data(), image.width(), width, C);
    slow_pass(&narrow, image.height(), height, width * C)
}

fn images<const C: usize>(side: usize) -> impl Strategy<Value = Image8<C>> {
    (1..=side, 1..=side).prop_flat_map(|(width, height)| {
        proptest::collection::vec(any::<u8>(), width * height * C)
            .prop_map(move |data| Image8::new(width, height, data).unwrap())
    })
}

proptest! {
    #[test]
    fn resize_follows_the_rule(image in images::<3>(40), width in 1..70_usize, height in 1..70_usize) {
        let fast = image.resize(width, height).unwrap();
        prop_assert_eq!((fast.width(), fast.height()), (width, height));
        prop_assert_eq!(fast.into_data(), slow_resize(&image, width, height));
    }

    #[test]
    fn resize_of_grey_follows_the_rule(image in images::<1>(60), width in 1..70_usize, height in 1..70_usize) {
        prop_assert_eq!(image.resize(width, height).unwrap().into_data(), slow_resize(&image, width, height));
    }

    /// Rows for several threads, and one side that stays as it is.
    #[test]
    fn a_tall_image_follows_the_rule(
        (width, height) in (1..30_usize, 130..300_usize), (wide, high) in (1..30_usize, 1..300_usize), keeps in 0..3, seed in any::<u8>(),
    ) {
        let data = (0..width * height * 3).map(|at| (at * 89 % 251) as u8 ^ seed).collect();
        let image = Rgb8::new(width, height, data).unwrap();
        let (wide, high) = match keeps {
            0 => (width, high),
            1 => (wide, height),
            _ => (wide, high),
        };
        prop_assert_eq!(image.resize(wide, high).unwrap().into_data(), slow_resize(&image, wide, high));
    }

    #[test]
    fn the_crop_is_a_part_of_the_whole(
        image in images::<3>(50), resize in 1..60_usize, off in 0..60_usize, keeps in any::<bool>(),
    ) {
        let resize = if keeps { image.width().min(image.height()) } else { resize };
        let crop = resize - off % resize;
        let (width, height) = resized_size(image.width(), image.height(), resize);
        let (left, top) = (centre_offset(width, crop), centre_offset(height, crop));
        let whole = slow_resize(&image, width, height);
        let expected: Vec<u8> = (top..top + crop)
            .flat_map(|y| whole[(y * width + left) * 3..][..crop * 3].to_vec())
            .collect();
        let preprocess = Preprocess::new(resize, crop, [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]).unwrap();
        prop_assert_eq!(&preprocess.crop_image(&image).into_data(), &expected);

        // ToTensor and Normalize: planes of (value / 255 - mean) / std.
        let input = preprocess.apply(&image);
        for (at, pixel) in expected.chunks(3).enumerate() {
            for c in 0..3 {
                let value = (f32::from(pixel[c]) / 255.0 - preprocess.mean()[c]) / preprocess.std()[c];
                prop_assert_eq!(input[c * crop * crop + at], value);
            }
        }
    }

    #[test]
    fn a_flat_image_stays_flat(value in any::<u8>(), width in 1..300_usize, height in 1..9_usize) {
        let image = Rgb8::new(width, height, vec![value; width * height * 3]).unwrap();
        prop_assert!(image.resize(31, 7).unwrap().data().iter().all(|&byte| byte == value));
    }
}

#[test]
fn resize_gives_the_bytes_of_pillow() {
    // y, x, c = np.mgrid[0:5, 0:7, 0:3]
    // im = Image.fromarray(((x*37 + y*91 + c*53 + x*y*29) % 256).astype(np.uint8))
    // list(im.resize(s, Image.BILINEAR).tobytes())      # Pillow 9.5.0 and 12.0.0
    let mut data = Vec::new();
    for y in 0..5 {
        for x in 0..7 {
            data.extend((0..3).map(|c| ((x * 37 + y * 91 + c * 53 + x * y * 29) % 256) as u8));
        }
    }
    let image = Rgb8::new(7, 5, data).unwrap();
    let small = [
        65, 112, 119, 111, 107, 138, 123, 176, 178, 200, 119, 62, 105, 155, 109, 119, 103, 144, 98, 111, 153, 190, 109,
        138, 68, 121, 167, 87, 140, 116, 110, 86, 139, 111, 100, 153,
    ];
    assert_eq!(image.resize(4, 3).unwrap().data(), small);
    let wide = [
        79, 132, 127, 83, 136, 110, 92, 136, 93, 127, 104, 128, 127, 92, 145, 103, 98, 151, 101, 132, 185, 117, 170,
        172, 159, 212, 96, 201, 114, 83, 231, 28, 81, 87, 140, 135, 80, 133, 148, 73, 125, 160, 85, 130, 120, 102, 126,
        127, 121, 116, 169, 97, 76, 129, 94, 88, 138, 121, 167, 209, 148, 106, 154, 168, 46, 99,
    ];
    assert_eq!(image.resize(11, 2).unwrap().data(), wide);
    let tall = [
        32, 85, 138, 111, 164, 202, 190, 152, 95, 71, 105, 122, 110, 143, 176, 185, 147, 90, 135, 139, 94, 108, 108,
        133, 176, 138, 81, 126, 149, 100, 120, 93, 129, 167, 129, 121, 99, 152, 113, 136, 83, 136, 159, 120, 173, 82,
        135, 147, 101, 107, 160, 150, 111, 164, 69, 122, 169, 78, 124, 170, 137, 102, 155, 73, 126, 142, 101, 114, 127,
        108, 93, 146, 75, 128, 126, 115, 108, 101, 90, 88, 141,
    ];
    assert_eq!(image.resize(3, 9).unwrap().data(), tall);
}

#[test]
fn extreme_shapes_need_no_more_memory_than_their_crop() {
    // Resized in full, this would be 256 x 51,200,000 pixels.
    let thread = Rgb8::new(1, 200_000, [10, 20, 30].repeat(200_000)).unwrap();
    let square = Preprocess::new(256, 224, [0.0; 3], [1.0; 3])
        .unwrap()
        .crop_image(&thread);
    assert_eq!((square.width(), square.height()), (224, 224));
    assert!(square.data().chunks(3).all(|pixel| pixel == [10, 20, 30]));
}

#[test]
fn settings_that_fit_no_image_are_refused() {
    for (resize, crop, mean, std, named) in [
        (256, 257, 0.5, 0.5, "257"),
        (256, 0, 0.5, 0.5, "crop"),
        (0, 0, 0.5, 0.5, "crop"),
        (1 << 40, 224, 0.5, 0.5, "at most"),
        (256, 224, f32::NAN, 0.5, "mean"),
        (256, 224, 0.5, 0.0, "deviation"),
        (256, 224, 0.5, f32::NAN, "deviation"),
    ] {
        let error = Preprocess::new(resize, crop, [mean; 3], [0.5, std, 0.5]).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
    }
    assert!(Rgb8::new(2, 2, vec![0; 11]).is_err());
    assert!(Rgb8::new(0, 2, vec![]).is_err());
    assert!(Rgb8::new(usize::MAX, usize::MAX, vec![0; 3]).is_err());
    assert!(Rgb8::new(1, 1, vec![0; 3]).unwrap().resize(0, 4).is_err());
}
