//! Patch embedding through candle, on any of its devices: a second definition of [`crate::patch`].

use candle_core::{Result, Tensor};

use crate::patch::adaptive_bins;

/// [`crate::patch::mean_embed`] for tensors: `maps[i]` is `[B, C_i, H_i, W_i]`, the result `[B·H_0·W_0, Σ C_i]`.
pub fn mean_embed(maps: &[Tensor], patch: usize) -> Result<Tensor> {
    let (rows, columns) = grid(maps, patch)?;
    let mut layers = Vec::with_capacity(maps.len());
    for map in maps {
        let shifted = shifts(map, patch)?;
        let mut sum = shifted[0].clone();
        for shift in &shifted[1..] {
            sum = (sum + shift)?;
        }
        let mean = (sum / (patch * patch) as f64)?;
        layers.push(resize(&mean, rows, columns)?);
    }
    let joined = Tensor::cat(&layers, 1)?;
    joined.permute((0, 2, 3, 1))?.contiguous()?.flatten(0, 2)
}

/// [`crate::patch::code_embed`] for tensors: `maps[i]` is `[B, C_i, H_i, W_i]`, the result `[B·H_0·W_0, target_dim]`.
///
/// Each map is pooled on its own grid before it is resized; see [`crate::patch`].
pub fn code_embed(maps: &[Tensor], patch: usize, pretrain_dim: usize, target_dim: usize) -> Result<Tensor> {
    let (rows, columns) = grid(maps, patch)?;
    let mut layers = Vec::with_capacity(maps.len());
    for map in maps {
        let (batch, channels, height, width) = map.dims4()?;
        let unfolded =
            Tensor::stack(&shifts(map, patch)?, 2)?.reshape((batch, channels * patch * patch, height, width))?;
        let vectors = unfolded.permute((0, 2, 3, 1))?.contiguous()?.flatten(0, 2)?;
        let pooled = adaptive_pool(&vectors, pretrain_dim)?;
        let pooled = pooled
            .reshape((batch, height, width, pretrain_dim))?
            .permute((0, 3, 1, 2))?;
        layers.push(resize(&pooled.contiguous()?, rows, columns)?);
    }
    let joined = Tensor::cat(&layers, 1)?;
    let vectors = joined.permute((0, 2, 3, 1))?.contiguous()?.flatten(0, 2)?;
    adaptive_pool(&vectors, target_dim)
}

fn grid(maps: &[Tensor], patch: usize) -> Result<(usize, usize)> {
    let Some(first) = maps.first() else {
        candle_core::bail!("no feature map to embed");
    };
    if patch.is_multiple_of(2) {
        candle_core::bail!("a patch of side {patch} has no centre\n\nhint: the patch size is odd: 1, 3, 5");
    }
    let (_, _, rows, columns) = first.dims4()?;
    Ok((rows, columns))
}

/// The map as each cell of the neighbourhood sees it, zeros outside, row by row of the neighbourhood.
fn shifts(map: &Tensor, patch: usize) -> Result<Vec<Tensor>> {
    let (_, _, height, width) = map.dims4()?;
    let reach = patch / 2;
    let padded = map.pad_with_zeros(2, reach, reach)?.pad_with_zeros(3, reach, reach)?;
    let cells = (0..patch).flat_map(|row| (0..patch).map(move |column| (row, column)));
    cells
        .map(|(row, column)| padded.narrow(2, row, height)?.narrow(3, column, width))
        .collect()
}

fn resize(map: &Tensor, rows: usize, columns: usize) -> Result<Tensor> {
    let (_, _, height, width) = map.dims4()?;
    match (height, width) == (rows, columns) {
        true => Ok(map.clone()),
        false => map.upsample_bilinear2d(rows, columns, false),
    }
}

/// Adaptive average pooling of the rows `[N, L]` to `[N, bins]`.
fn adaptive_pool(vectors: &Tensor, bins: usize) -> Result<Tensor> {
    let (count, length) = vectors.dims2()?;
    if bins == 0 {
        candle_core::bail!("adaptive pooling of {length} values to 0");
    }
    if length.is_multiple_of(bins) {
        return vectors.reshape((count, bins, length / bins))?.mean(2);
    }
    let mut matrix = vec![0f32; length * bins];
    for (bin, (start, end)) in adaptive_bins(length, bins).enumerate() {
        for value in start..end {
            matrix[value * bins + bin] = 1.0 / (end - start) as f32;
        }
    }
    vectors.matmul(&Tensor::from_vec(matrix, (length, bins), vectors.device())?)
}
