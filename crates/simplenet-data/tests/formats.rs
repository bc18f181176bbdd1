//! What image files decode to, and what broken ones say.

mod common;

use std::io::{Cursor, Read};
use std::path::Path;

use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Rgb, RgbImage};
use simplenet_data::{Error, Gray8, Rgb8};

/// A picture that no flip or transposition leaves alone.
fn picture() -> RgbImage {
    RgbImage::from_fn(7, 5, |x, y| Rgb([(x * 36) as u8, (y * 63) as u8, (x * y * 10) as u8]))
}

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn decode(bytes: &[u8]) -> Rgb8 {
    Rgb8::decode(bytes, "test").unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn lossless_formats_keep_every_byte() {
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff] {
        let image = decode(&encode(picture(), format));
        assert_eq!((image.width(), image.height()), (7, 5));
        assert_eq!(image.data(), picture().as_raw(), "{format:?}");
        assert_eq!(image.pixel(6, 1), Some([216, 63, 60]));
        assert_eq!(image.pixel(1, 6), None);
    }
}

#[test]
fn jpeg_keeps_the_picture() {
    let smooth = RgbImage::from_fn(64, 40, |x, y| Rgb([(x * 3) as u8, (y * 5) as u8, 128]));
    let image = decode(&encode(smooth.clone(), ImageFormat::Jpeg));
    assert_eq!((image.width(), image.height()), (64, 40));
    let worst = image
        .data()
        .iter()
        .zip(smooth.as_raw())
        .map(|(a, b)| a.abs_diff(*b))
        .max();
    assert!(worst < Some(24), "{worst:?}");
}

#[test]
fn the_content_decides_the_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("really_a_bmp.png");
    std::fs::write(&path, encode(picture(), ImageFormat::Bmp)).unwrap();
    assert_eq!(Rgb8::open(&path).unwrap().data(), picture().as_raw());
}

#[test]
fn grey_is_repeated_and_alpha_dropped() {
    let grey = GrayImage::from_fn(3, 2, |x, y| [(x * 100 + y) as u8].into());
    let repeated: Vec<u8> = grey.as_raw().iter().flat_map(|&value| [value; 3]).collect();
    for format in [ImageFormat::Png, ImageFormat::Tiff, ImageFormat::Bmp] {
        assert_eq!(decode(&encode(grey.clone(), format)).data(), repeated, "{format:?}");
    }
    let veiled = ImageBuffer::from_fn(3, 2, |x, y| image::LumaA([(x * 100 + y) as u8, 7]));
    assert_eq!(decode(&encode(veiled, ImageFormat::Png)).data(), repeated);
    let veiled = ImageBuffer::from_fn(7, 5, |x, y| {
        let Rgb([r, g, b]) = *picture().get_pixel(x, y);
        image::Rgba([r, g, b, 0])
    });
    for format in [ImageFormat::Png, ImageFormat::Tiff] {
        assert_eq!(
            decode(&encode(veiled.clone(), format)).data(),
            picture().as_raw(),
            "{format:?}"
        );
    }
}

#[test]
fn sixteen_bits_keep_their_high_byte() {
    // np.asarray(Image.open(f).convert("RGB")) of a 16-bit colour PNG is value >> 8 (Pillow 12.0.0).
    let deep = ImageBuffer::from_fn(4, 1, |x, _| image::Luma([[0_u16, 255, 256, 65535][x as usize]]));
    let shallow = [0, 0, 1, 255].map(|value| [value; 3]).concat();
    for format in [ImageFormat::Png, ImageFormat::Tiff] {
        assert_eq!(decode(&encode(deep.clone(), format)).data(), shallow, "{format:?}");
    }
    let deep = ImageBuffer::from_pixel(2, 3, image::Rgb([0x12_34_u16, 0xFF_00, 0x00_FF]));
    assert_eq!(
        decode(&encode(deep, ImageFormat::Png)).data(),
        [0x12, 0xFF, 0x00].repeat(6)
    );
    let deep = ImageBuffer::from_pixel(2, 3, image::Rgba([0x12_34_u16, 0xFF_00, 0x00_FF, 9]));
    assert_eq!(
        decode(&encode(deep, ImageFormat::Png)).data(),
        [0x12, 0xFF, 0x00].repeat(6)
    );
}

#[test]
fn palettes_and_single_bits_are_those_of_pillow() {
    // p = Image.new("P", (3, 2)); p.putpalette([200,10,20, 30,240,50, 60,70,255]); p.putdata([0,1,2,2,1,0])
    // p.save(f, "PNG", transparency=1, optimize=True); list(Image.open(f).convert("RGB").tobytes())
    let palette = hex(
        "89504e470d0a1a0a0000000d4948445200000003000000020203000000e01a8e8900000009504c5445c80a141ef0323c46ff0fb7f4e3\
         0000000274524e53ff00e5b7304a0000000c4944415478da63906098000000dc00a9521a138f0000000049454e44ae426082",
    );
    let expected = [
        200, 10, 20, 30, 240, 50, 60, 70, 255, 60, 70, 255, 30, 240, 50, 200, 10, 20,
    ];
    assert_eq!(decode(&palette).data(), expected);
    // o = Image.new("1", (3, 2)); o.putdata([0,255,0,255,255,0]); the same
    let bits = hex(
        "89504e470d0a1a0a0000000d4948445200000003000000020100000000b50f5bb70000000c49444154789c6370603800000184010\
         10a7f90500000000049454e44ae426082",
    );
    assert_eq!(
        decode(&bits).data(),
        [0, 255, 0, 255, 255, 0].map(|value| [value; 3]).concat()
    );
}

#[test]
fn luma_is_that_of_pillow() {
    // Image.new("RGB", (1, 1), c).convert("L").getpixel((0, 0)): 124 for (200, 100, 50), 29 for (0, 0, 255)
    let colours = RgbImage::from_fn(
        3,
        1,
        |x, _| Rgb([[200, 100, 50], [0, 0, 255], [77, 77, 77]][x as usize]),
    );
    assert_eq!(
        Gray8::decode(&encode(colours, ImageFormat::Png), "test")
            .unwrap()
            .data(),
        [124, 29, 77]
    );
}

#[test]
fn any_cut_of_a_file_is_an_error_that_names_it() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::Tiff] {
        let whole = encode(picture(), format);
        // The last bytes of a TIFF are padding of its directory, those of a PNG its empty end chunk.
        for kept in 0..whole.len() - 16 {
            let error = Rgb8::decode(&whole[..kept], "line3/0042.img").unwrap_err();
            assert!(error.to_string().contains("0042.img"), "{error}");
        }
    }
    let whole = encode(picture(), ImageFormat::Jpeg);
    for kept in 0..whole.len() {
        assert!(
            Rgb8::decode(&whole[..kept], "0042.jpg").is_err(),
            "{kept} of {} bytes",
            whole.len()
        );
    }
}

#[test]
fn the_end_of_a_thumbnail_is_not_the_end_of_a_jpeg() {
    let whole = encode(picture(), ImageFormat::Jpeg);
    // An application segment that holds a complete picture, as cameras write it.
    let mut camera = vec![0xFF, 0xD8, 0xFF, 0xE5];
    camera.extend((whole.len() as u16 + 2).to_be_bytes());
    camera.extend(&whole);
    camera.extend(&whole[2..]);
    assert_eq!(decode(&camera), decode(&whole));
    camera.extend(b"what some cameras leave behind the picture");
    assert_eq!(decode(&camera), decode(&whole));
    let cut = &camera[..6 + whole.len() + whole.len() / 2];
    let error = Rgb8::decode(cut, "0042.jpg").unwrap_err();
    assert!(matches!(error, Error::Truncated { .. }), "{error}");
    assert!(error.to_string().contains("hint: "), "{error}");
}

#[test]
fn a_changed_byte_in_a_png_is_an_error() {
    let mut bytes = encode(picture(), ImageFormat::Png);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    assert!(matches!(Rgb8::decode(&bytes, "bent.png"), Err(Error::Decode { .. })));
}

#[test]
fn what_is_no_image_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.png");
    for content in [&b""[..], b"x", b"these are not pixels", b"GIF89a\x01\x00\x01\x00"] {
        std::fs::write(&path, content).unwrap();
        let error = Rgb8::open(&path).unwrap_err();
        assert!(matches!(error, Error::UnknownFormat { .. }), "{error}");
        assert!(error.to_string().contains("notes.png"), "{error}");
    }
    let missing = Rgb8::open(folder.path().join("missing.png")).unwrap_err();
    assert!(
        matches!(&missing, Error::Read { path, .. } if path.ends_with("missing.png")),
        "{missing}"
    );
    assert!(matches!(Rgb8::open(folder.path()), Err(Error::Read { .. })));
}

#[test]
fn floats_are_refused() {
    let depth = ImageBuffer::from_pixel(2, 2, image::Rgb([0.5_f32, 0.25, 1.0]));
    let error = Rgb8::decode(
        &encode(DynamicImage::ImageRgb32F(depth), ImageFormat::Tiff),
        "depth.tif",
    )
    .unwrap_err();
    assert!(matches!(error, Error::PixelType { .. }), "{error}");
}

#[test]
fn a_bomb_is_refused_before_it_goes_off() {
    // A PNG of 70 bytes that says it is 40000 x 30000.
    let mut bytes = encode(GrayImage::new(1, 1), ImageFormat::Png);
    bytes[16..20].copy_from_slice(&40_000_u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&30_000_u32.to_be_bytes());
    let mut sum = flate2::Crc::new();
    sum.update(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.sum().to_be_bytes());
    let error = Rgb8::decode(&bytes, Path::new("bomb.png")).unwrap_err();
    let Error::TooManyPixels {
        width: 40_000,
        height: 30_000,
        ..
    } = error
    else {
        panic!("{error}")
    };
}

#[test]
fn jpegs_from_the_wild_decode() {
    let Some(path) = common::shared("data/cifar10/cifar10_all60000_jpg.tar.gz") else {
        return;
    };
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()));
    let mut seen = 0;
    for entry in archive.entries().unwrap().take(300) {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().into_owned();
        if name.extension().is_none() {
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let image = Rgb8::decode(&bytes, &name).unwrap();
        assert_eq!((image.width(), image.height()), (32, 32), "{}", name.display());
        assert!(
            Rgb8::decode(&bytes[..bytes.len() * 2 / 3], &name).is_err(),
            "{}",
            name.display()
        );
        seen += 1;
    }
    assert!(seen > 250);
}
