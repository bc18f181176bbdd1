//! Which instruction set the CPU kernels use, chosen once at run time.

use std::sync::OnceLock;

use thiserror::Error;

/// An instruction set with its own kernels, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust that every target compiles (aarch64 NEON through the compiler's vectoriser).
    Portable,
    /// AVX2 and FMA: 8 lanes of f32.
    Avx2,
    /// AVX-512 F/BW/DQ/VL: 16 lanes of f32.
    Avx512,
    /// AVX-512 with bf16 dot products. [`Isa::detect`] leaves it to those who ask for it where it is slower than
    /// [`Isa::Avx512`].
    Avx512Bf16,
    /// AMX tiles in bf16 (f32 work runs as on [`Isa::Avx512`]). In a convolution a pixel that is not finite can spoil more
    /// neighbours outside of its window than elsewhere, as a tile reaches over them with weights of zero.
    Amx,
}

/// `SIMPLENET_ISA` names something that cannot be used.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IsaError {
    /// Not a name of an instruction set.
    #[error("SIMPLENET_ISA is `{0}`\n\nhint: use one of portable, avx2, avx512, avx512-bf16, amx")]
    Unknown(String),
    /// This processor lacks it.
    #[error("SIMPLENET_ISA asks for {asked}, but this processor has only {best}")]
    Unsupported {
        /// As asked.
        asked: Isa,
        /// The strongest there is.
        best: Isa,
    },
}

impl Isa {
    /// Every instruction set, weakest first.
    pub const ALL: [Isa; 5] = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16, Isa::Amx];

    /// Its name, as `SIMPLENET_ISA` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Bf16 => "avx512-bf16",
            Isa::Amx => "amx",
        }
    }

    /// Those that this processor runs, weakest first. Never empty.
    pub fn supported() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.runs_here()).collect()
    }

    /// The fastest that this processor runs, or the one that `SIMPLENET_ISA` names. Read once per process.
    pub fn detect() -> Result<Isa, IsaError> {
        static CHOICE: OnceLock<Result<Isa, IsaError>> = OnceLock::new();
        CHOICE
            .get_or_init(|| Isa::choose(std::env::var("SIMPLENET_ISA").ok().as_deref()))
            .clone()
    }

    fn choose(asked: Option<&str>) -> Result<Isa, IsaError> {
        let best = Isa::ALL
            .into_iter()
            .rev()
            .find(|isa| isa.runs_here() && isa.pays_here())
            .unwrap_or(Isa::Portable);
        let Some(name) = asked.filter(|name| !name.is_empty()) else {
            return Ok(best);
        };
        let named = Isa::ALL.into_iter().find(|isa| isa.name() == name);
        let asked = named.ok_or_else(|| IsaError::Unknown(name.to_string()))?;
        if asked.runs_here() {
            Ok(asked)
        } else {
            let best = Isa::supported().last().copied().unwrap_or(Isa::Portable);
            Err(IsaError::Unsupported { asked, best })
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn runs_here(self) -> bool {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        let bf16 = avx512 && is_x86_feature_detected!("avx512bf16");
        match self {
            Isa::Portable => true,
            Isa::Avx2 => avx2,
            Isa::Avx512 => avx512,
            Isa::Avx512Bf16 => bf16,
            Isa::Amx => bf16 && (amx_allowed() || amx_emulated()),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn runs_here(self) -> bool {
        self == Isa::Portable
    }

    /// Whether it is faster than the one before it; AMX in software is not. Intel's `VDPBF16PS` does about half of the
    /// multiply-adds per second that FMA does in f32, so bf16 is faster as rounded f32 there.
    #[cfg(target_arch = "x86_64")]
    fn pays_here(self) -> bool {
        let vendor = std::arch::x86_64::__cpuid(0);
        let is_intel = (vendor.ebx, vendor.edx, vendor.ecx) == (0x756e_6547, 0x4965_6e69, 0x6c65_746e);
        match self {
            Isa::Avx512Bf16 => !is_intel,
            Isa::Amx => amx_allowed(),
            _ => true,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn pays_here(self) -> bool {
        true
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Whether the processor has AMX-BF16 and the kernel grants this process the tile registers, which are off until asked
/// for (`arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`; once per process, inherited by its threads).
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn amx_allowed() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| {
        // CPUID leaf 7, EDX: bit 22 AMX-BF16, bit 24 AMX-TILE.
        let leaf = std::arch::x86_64::__cpuid_count(7, 0);
        if leaf.edx & (1 << 22) == 0 || leaf.edx & (1 << 24) == 0 {
            return false;
        }
        const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
        const XFEATURE_XTILEDATA: libc::c_ulong = 18;
        // SAFETY: the call takes two integers and touches no memory of ours; it fails with a code where unknown.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
    })
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn amx_allowed() -> bool {
    false
}

/// Whether AMX can be used all the same: in tests, in software.
#[cfg(all(feature = "kernel-emu", target_arch = "x86_64", target_os = "linux"))]
fn amx_emulated() -> bool {
    crate::amx::emulated::install()
}

#[cfg(all(target_arch = "x86_64", not(all(feature = "kernel-emu", target_os = "linux"))))]
fn amx_emulated() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_chooses_and_a_wrong_one_is_refused() {
        assert_eq!(Isa::choose(Some("portable")), Ok(Isa::Portable));
        assert_eq!(Isa::choose(None), Isa::choose(Some("")));
        assert_eq!(Isa::choose(Some("sse9")), Err(IsaError::Unknown("sse9".into())));
        let chosen = Isa::choose(None).expect("there is always one");
        assert!(Isa::supported().contains(&chosen) && chosen.pays_here());
        for isa in Isa::supported() {
            assert_eq!(Isa::choose(Some(isa.name())), Ok(isa), "asked for");
        }
    }
}
