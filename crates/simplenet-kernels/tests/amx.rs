//! The AMX loops on any x86-64 Linux: where the processor lacks the instructions it raises SIGILL, and the handler
//! does what the instruction would have done, by Intel's manual. With AMX the processor does it itself.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
#![expect(
    unsafe_code,
    reason = "a signal handler that reads and writes another context's registers"
)]

#[path = "../src/amx.rs"]
#[allow(dead_code, reason = "the engine and the products use the rest")]
mod amx;

use std::ptr::copy_nonoverlapping;
use std::sync::atomic::{AtomicUsize, Ordering};

use half::bf16;
use libc::{REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
use libc::{REG_RAX, REG_RBP, REG_RBX, REG_RCX, REG_RDI, REG_RDX, REG_RIP, REG_RSI, REG_RSP};

/// Bytes from row to row of a tile, and of a tile.
const ROW: usize = 64;
const TILE: usize = 16 * ROW;

/// The processor's state that AMX adds.
struct State {
    config: [u8; 64],
    tiles: [[u8; TILE]; 8],
}

/// One test runs, on one thread, so nothing else touches it.
static mut STATE: State = State {
    config: [0; 64],
    tiles: [[0; TILE]; 8],
};

static EMULATED: AtomicUsize = AtomicUsize::new(0);

impl State {
    fn rows(&self, tile: usize) -> usize {
        self.config[48 + tile].into()
    }

    fn row_bytes(&self, tile: usize) -> usize {
        u16::from_le_bytes([self.config[16 + 2 * tile], self.config[17 + 2 * tile]]).into()
    }

    /// `tdpbf16ps`: sums += pairs of `left` times pairs of `right`.
    fn multiply(&mut self, sums: usize, left: usize, right: usize) {
        let terms = self.row_bytes(left) / 4;
        assert_eq!(
            self.rows(sums),
            self.rows(left),
            "rows of the sums and of the left factor"
        );
        assert_eq!(
            terms,
            self.rows(right),
            "pairs of the left factor and rows of the right one"
        );
        assert_eq!(
            self.row_bytes(sums),
            self.row_bytes(right),
            "columns of the sums and of the right factor"
        );
        let value = |tile: &[u8; TILE], at: usize| bf16::from_le_bytes([tile[at], tile[at + 1]]).to_f32();
        for row in 0..self.rows(sums) {
            for column in 0..self.row_bytes(sums) / 4 {
                let at = ROW * row + 4 * column;
                let mut sum = f32::from_le_bytes(std::array::from_fn(|byte| self.tiles[sums][at + byte]));
                for term in 0..2 * terms {
                    let a = value(&self.tiles[left], ROW * row + 2 * term);
                    let b = value(&self.tiles[right], ROW * (term / 2) + 4 * column + 2 * (term % 2));
                    sum += a * b;
                }
                self.tiles[sums][at..at + 4].copy_from_slice(&sum.to_le_bytes());
            }
        }
    }
}

/// The operand in memory of an instruction with `modrm` at `bytes[4]`: address, stride, and the bytes that describe it.
unsafe fn memory(bytes: &[u8; 16], register: impl Fn(usize) -> i64) -> (i64, i64, usize) {
    let (high_index, high_base) = (usize::from(!bytes[1] >> 6 & 1) * 8, usize::from(!bytes[1] >> 5 & 1) * 8);
    let (mode, rm) = (bytes[4] >> 6, usize::from(bytes[4] & 7));
    let (mut base, mut stride, mut length) = (rm + high_base, 0, 1);
    if rm == 4 {
        let sib = bytes[5];
        let index = usize::from(sib >> 3 & 7) + high_index;
        base = usize::from(sib & 7) + high_base;
        stride = if index == 4 { 0 } else { register(index) << (sib >> 6) };
        length = 2;
    }
    let displacement = &bytes[4 + length..];
    let (offset, size) = match mode {
        0 => (0, 0),
        1 => (i64::from(displacement[0] as i8), 1),
        _ => (
            i64::from(i32::from_le_bytes(std::array::from_fn(|byte| displacement[byte]))),
            4,
        ),
    };
    (register(base) + offset, stride, length + size)
}

extern "C" fn emulate(_signal: i32, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    const REGISTERS: [i32; 16] = [
        REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11,
        REG_R12, REG_R13, REG_R14, REG_R15,
    ];
    // SAFETY: the kernel passes the interrupted context; its instruction pointer is at an instruction, followed by the
    // rest of the program's code; the state is this thread's; the instruction's operands are the program's promise.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let bytes = &*(registers[REG_RIP as usize] as *const [u8; 16]);
        let state: *mut State = &raw mut STATE;
        let state = &mut *state;
        let (prefix, opcode, register) = (bytes[2] & 3, bytes[3], usize::from(bytes[4] >> 3 & 7));
        let in_memory = bytes[4] >> 6 != 3;
        let (address, stride, length) = match in_memory {
            true => memory(bytes, |index| registers[REGISTERS[index] as usize]),
            false => (0, 0, 1),
        };
        let row = |index: usize| (address + stride * index as i64) as *mut u8;
        match (bytes[0], opcode, prefix, in_memory) {
            (0xc4, 0x49, 0, true) => copy_nonoverlapping(row(0), state.config.as_mut_ptr(), 64), // ldtilecfg
            (0xc4, 0x49, 0, false) => state.config = [0; 64],                                    // tilerelease
            (0xc4, 0x49, 3, false) => state.tiles[register] = [0; TILE],                         // tilezero
            (0xc4, 0x4b, 3, true) => {
                // tileloadd
                for index in 0..state.rows(register) {
                    let bytes = state.row_bytes(register);
                    copy_nonoverlapping(row(index), state.tiles[register][ROW * index..].as_mut_ptr(), bytes);
                }
            }
            (0xc4, 0x4b, 2, true) => {
                // tilestored
                for index in 0..state.rows(register) {
                    copy_nonoverlapping(
                        state.tiles[register][ROW * index..].as_ptr(),
                        row(index),
                        state.row_bytes(register),
                    );
                }
            }
            (0xc4, 0x5c, 2, false) => {
                state.multiply(register, usize::from(bytes[4] & 7), usize::from(!bytes[2] >> 3 & 15)); // tdpbf16ps
            }
            _ => {
                // Not ours: the default action ends the process where it happened.
                libc::signal(libc::SIGILL, libc::SIG_DFL);
                return;
            }
        }
        registers[REG_RIP as usize] += 4 + length as i64;
    }
    EMULATED.fetch_add(1, Ordering::Relaxed);
}

/// Multiplies `P` rows whose reduction comes in `chunks` tiles at each of `taps`.
fn check<const P: usize>(taps: &[usize], chunks: usize, left_stride: usize) {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bf16::from_f32((state >> 24) as f32 / 64.0 - 2.0)
    };
    let reach = taps.iter().max().expect("a tap") + P * left_stride + chunks * 32;
    let left: Vec<bf16> = (0..reach).map(|_| next()).collect();
    let right: Vec<bf16> = (0..taps.len() * chunks * 1024).map(|_| next()).collect();
    let mut sums = Box::new(amx::Sums([f32::NAN; 1024]));
    let factors = amx::Factors {
        left: left.as_ptr(),
        left_stride,
        taps,
        chunks_per_tap: chunks,
        right: right.as_ptr(),
        ahead: right.as_ptr().wrapping_add(right.len()),
        ahead_step: 100,
    };
    // SAFETY: the factors are as long as they say; the instructions exist or are emulated.
    unsafe { amx::multiply::<P>(&factors, &mut *sums) };
    for row in 0..P {
        for column in 0..32 {
            let terms = taps
                .iter()
                .enumerate()
                .flat_map(|(piece, &tap)| (0..chunks * 32).map(move |term| (piece, tap, term)));
            let expected: f64 = terms
                .map(|(piece, tap, term)| {
                    let b = ((piece * chunks * 32 + term) / 2 * 32 + column) * 2 + term % 2;
                    left[tap + row * left_stride + term].to_f64() * right[b].to_f64()
                })
                .sum();
            let found = f64::from(sums.0[row * 32 + column]);
            assert!(
                (found - expected).abs() < 1e-3,
                "{P} rows, ({row}, {column}): {found} instead of {expected}"
            );
        }
    }
    assert!(
        sums.0[P * 32..].iter().all(|sum| sum.is_nan()),
        "{P} rows: more was written"
    );
}

#[test]
fn products_in_tiles_are_their_definition() {
    let has_amx = simplenet_kernels::isa::Isa::supported().contains(&simplenet_kernels::isa::Isa::Amx);
    if !has_amx {
        // SAFETY: the handler is made for this signal and touches only what it says.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = emulate as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            assert_eq!(libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut()), 0);
        }
    }
    check::<32>(&[0], 24, 800);
    check::<32>(&[0, 96, 500], 3, 128);
    check::<31>(&[0, 64], 2, 96);
    check::<17>(&[3], 2, 64);
    check::<16>(&[0], 5, 64);
    check::<1>(&[0, 7], 1, 64);
    assert_eq!(EMULATED.load(Ordering::Relaxed) > 0, !has_amx);
}
