//! AMX in software, for tests: where the processor lacks the instructions it raises SIGILL, and the handler does what the
//! instruction would have done, by Intel's manual but for the last bits: sums are made in another order, and denormals kept.
//! With AMX the processor does it itself.

use std::cell::UnsafeCell;
use std::ptr::copy_nonoverlapping;
use std::sync::OnceLock;

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

thread_local! {
    static STATE: UnsafeCell<State> = const {
        UnsafeCell::new(State {
            config: [0; 64],
            tiles: [[0; TILE]; 8],
        })
    };
}

/// From now on the instructions work on every thread of this process. False where the handler cannot be set.
pub(crate) fn install() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        // SAFETY: the handler is made for this signal and touches only what it says.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = emulate as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut()) == 0
        }
    })
}

impl State {
    fn rows(&self, tile: usize) -> usize {
        self.config[48 + tile].into()
    }

    fn row_bytes(&self, tile: usize) -> usize {
        u16::from_le_bytes([self.config[16 + 2 * tile], self.config[17 + 2 * tile]]).into()
    }

    /// Whether the processor takes this configuration: palette 1, eight tiles at most, each with rows and columns or with neither.
    fn is_configured(&self) -> bool {
        let tile = |tile| (self.rows(tile), self.row_bytes(tile));
        self.config[0] == 1
            && self.config[1..16].iter().all(|&byte| byte == 0)
            && (0..8)
                .map(tile)
                .all(|(rows, bytes)| rows <= 16 && bytes <= ROW && (rows == 0) == (bytes == 0))
            && (8..16).map(tile).all(|tile| tile == (0, 0))
    }

    /// `tdpbf16ps`: sums += pairs of `left` times pairs of `right`. False where the shapes do not fit.
    fn multiply(&mut self, sums: usize, left: usize, right: usize) -> bool {
        let (pairs, columns) = (self.row_bytes(left) / 4, self.row_bytes(sums) / 4);
        let fits = sums != left
            && sums != right
            && left != right
            && self.rows(sums) == self.rows(left)
            && pairs == self.rows(right)
            && self.row_bytes(sums) == self.row_bytes(right);
        let value = |tile: &[u8; TILE], at: usize| bf16::from_le_bytes([tile[at], tile[at + 1]]).to_f32();
        for row in 0..self.rows(sums) {
            for pair in 0..pairs {
                let a = [0, 2].map(|byte| value(&self.tiles[left], ROW * row + 4 * pair + byte));
                for column in 0..columns {
                    let b = [0, 2].map(|byte| value(&self.tiles[right], ROW * pair + 4 * column + byte));
                    let at = ROW * row + 4 * column;
                    let sum = f32::from_le_bytes(std::array::from_fn(|byte| self.tiles[sums][at + byte]));
                    let sum = sum + a[0] * b[0] + a[1] * b[1];
                    self.tiles[sums][at..at + 4].copy_from_slice(&sum.to_le_bytes());
                }
            }
        }
        fits
    }
}

/// The operand in memory of an instruction with `modrm` at `bytes[4]`: address, stride, and the bytes that describe it.
fn memory(bytes: &[u8; 16], register: impl Fn(usize) -> i64) -> (i64, i64, usize) {
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
        let state = &mut *STATE.with(UnsafeCell::get);
        let (prefix, opcode, register) = (bytes[2] & 3, bytes[3], usize::from(bytes[4] >> 3 & 7));
        let in_memory = bytes[4] >> 6 != 3;
        let (address, stride, length) = match in_memory {
            true => memory(bytes, |index| registers[REGISTERS[index] as usize]),
            false => (0, 0, 1),
        };
        let row = |index: usize| (address + stride * index as i64) as *mut u8;
        let known = match (bytes[0], opcode, prefix, in_memory) {
            // ldtilecfg: all tiles become zero.
            (0xc4, 0x49, 0, true) => {
                state.tiles = [[0; TILE]; 8];
                copy_nonoverlapping(row(0), state.config.as_mut_ptr(), 64);
                state.is_configured()
            }
            // tilerelease
            (0xc4, 0x49, 0, false) => {
                state.config = [0; 64];
                true
            }
            // tilezero
            (0xc4, 0x49, 3, false) => {
                state.tiles[register] = [0; TILE];
                state.rows(register) > 0
            }
            // tileloadd, and tileloaddt1, which differs in what caches keep
            (0xc4, 0x4b, 3 | 1, true) => {
                for index in 0..state.rows(register) {
                    let bytes = state.row_bytes(register);
                    copy_nonoverlapping(row(index), state.tiles[register][ROW * index..].as_mut_ptr(), bytes);
                }
                state.rows(register) > 0
            }
            // tilestored
            (0xc4, 0x4b, 2, true) => {
                for index in 0..state.rows(register) {
                    let bytes = state.row_bytes(register);
                    copy_nonoverlapping(state.tiles[register][ROW * index..].as_ptr(), row(index), bytes);
                }
                state.rows(register) > 0
            }
            // tdpbf16ps
            (0xc4, 0x5c, 2, false) => {
                state.multiply(register, usize::from(bytes[4] & 7), usize::from(!bytes[2] >> 3 & 15))
            }
            _ => false,
        };
        if !known {
            // Not ours, or a tile that is not set up so: the default action ends the process where it happened.
            libc::signal(libc::SIGILL, libc::SIG_DFL);
            return;
        }
        registers[REG_RIP as usize] += 4 + length as i64;
    }
}
