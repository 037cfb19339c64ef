//! What the machine can do at most, measured: bytes read, and 8-bit multiply-adds.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bise_kernels::{Isa, Team};

/// Rounds of [`ops`] in a measurement.
pub const ROUNDS: u64 = 10_000;
/// Accumulators of a round: more than an instruction's latency times the units that can take it.
const ACCUMULATORS: u64 = 12;
/// Bytes of a task of [`read`].
const CHUNK: usize = 128 << 10;

/// The sum of `data`, which all of it had to be read for.
pub fn read(team: &Team, data: &[u8]) -> u64 {
    let sum = AtomicU64::new(0);
    team.run(data.len().div_ceil(CHUNK), |task, _| {
        let mut lanes = [0u64; 16];
        let chunk = &data[task * CHUNK..data.len().min((task + 1) * CHUNK)];
        for words in chunk.as_chunks::<128>().0 {
            for (lane, word) in lanes.iter_mut().zip(words.as_chunks::<8>().0) {
                *lane = lane.wrapping_add(u64::from_ne_bytes(*word));
            }
        }
        sum.fetch_add(lanes.into_iter().fold(0, u64::wrapping_add), Relaxed);
    });
    sum.into_inner()
}

/// Executes `rounds` of twelve independent 8-bit dot product instructions and says how many multiplications and additions they were, or
/// `None` where the instruction set has no such instruction, or this machine not the instruction set.
pub fn ops(isa: Isa, rounds: u64) -> Option<u64> {
    if !isa.is_available() {
        return None;
    }
    let macs_per_instruction = match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the instruction set is available.
        Isa::Avx2 => unsafe { x86::avx2(rounds) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::AvxVnni => unsafe { x86::avx_vnni(rounds) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512Vnni => unsafe { x86::avx512_vnni(rounds) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Amx => unsafe { amx::amx(rounds) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Isa::NeonDotprod => unsafe { arm::dotprod(rounds) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Isa::NeonI8mm => unsafe { arm::i8mm(rounds) },
        _ => return None,
    };
    Some(2 * macs_per_instruction * ACCUMULATORS * rounds)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;

    /// Twelve independent instructions in a loop; the registers' contents do not matter.
    macro_rules! peak {
        ($name:ident, $macs:literal, $($instruction:literal),*) => {
            /// # Safety
            /// The CPU has the instruction.
            pub unsafe fn $name(rounds: u64) -> u64 {
                // SAFETY: the caller vouches for the instruction; vector registers are declared as overwritten.
                unsafe {
                    asm!(
                        "2:",
                        $($instruction,)*
                        "dec {rounds}",
                        "jnz 2b",
                        "vzeroupper",
                        rounds = inout(reg) rounds.max(1) => _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                        out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                        out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                        options(nomem, nostack),
                    );
                }
                $macs
            }
        };
    }

    // A dot product without VNNI is three instructions: u8 × i8 to pairs in i16, pairs to i32, and their sum.
    peak!(
        avx2,
        32,
        "vpmaddubsw ymm12, ymm14, ymm15",
        "vpmaddwd ymm12, ymm12, ymm15",
        "vpaddd ymm0, ymm0, ymm12",
        "vpmaddubsw ymm13, ymm14, ymm15",
        "vpmaddwd ymm13, ymm13, ymm15",
        "vpaddd ymm1, ymm1, ymm13",
        "vpmaddubsw ymm12, ymm14, ymm15",
        "vpmaddwd ymm12, ymm12, ymm15",
        "vpaddd ymm2, ymm2, ymm12",
        "vpmaddubsw ymm13, ymm14, ymm15",
        "vpmaddwd ymm13, ymm13, ymm15",
        "vpaddd ymm3, ymm3, ymm13",
        "vpmaddubsw ymm12, ymm14, ymm15",
        "vpmaddwd ymm12, ymm12, ymm15",
        "vpaddd ymm4, ymm4, ymm12",
        "vpmaddubsw ymm13, ymm14, ymm15",
        "vpmaddwd ymm13, ymm13, ymm15",
        "vpaddd ymm5, ymm5, ymm13",
        "vpmaddubsw ymm12, ymm14, ymm15",
        "vpmaddwd ymm12, ymm12, ymm15",
        "vpaddd ymm6, ymm6, ymm12",
        "vpmaddubsw ymm13, ymm14, ymm15",
        "vpmaddwd ymm13, ymm13, ymm15",
        "vpaddd ymm7, ymm7, ymm13",
        "vpmaddubsw ymm12, ymm14, ymm15",
        "vpmaddwd ymm12, ymm12, ymm15",
        "vpaddd ymm8, ymm8, ymm12",
        "vpmaddubsw ymm13, ymm14, ymm15",
        "vpmaddwd ymm13, ymm13, ymm15",
        "vpaddd ymm9, ymm9, ymm13",
        "vpmaddubsw ymm12, ymm14, ymm15",
        "vpmaddwd ymm12, ymm12, ymm15",
        "vpaddd ymm10, ymm10, ymm12",
        "vpmaddubsw ymm13, ymm14, ymm15",
        "vpmaddwd ymm13, ymm13, ymm15",
        "vpaddd ymm11, ymm11, ymm13"
    );
    peak!(
        avx_vnni,
        32,
        "{{vex}} vpdpbusd ymm0, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm1, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm2, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm3, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm4, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm5, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm6, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm7, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm8, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm9, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm10, ymm14, ymm15",
        "{{vex}} vpdpbusd ymm11, ymm14, ymm15"
    );
    peak!(
        avx512_vnni,
        64,
        "vpdpbusd zmm0, zmm14, zmm15",
        "vpdpbusd zmm1, zmm14, zmm15",
        "vpdpbusd zmm2, zmm14, zmm15",
        "vpdpbusd zmm3, zmm14, zmm15",
        "vpdpbusd zmm4, zmm14, zmm15",
        "vpdpbusd zmm5, zmm14, zmm15",
        "vpdpbusd zmm6, zmm14, zmm15",
        "vpdpbusd zmm7, zmm14, zmm15",
        "vpdpbusd zmm8, zmm14, zmm15",
        "vpdpbusd zmm9, zmm14, zmm15",
        "vpdpbusd zmm10, zmm14, zmm15",
        "vpdpbusd zmm11, zmm14, zmm15"
    );
}

#[cfg(target_arch = "x86_64")]
mod amx {
    use std::arch::asm;

    /// `ldtilecfg`'s memory: the first palette, and eight registers of 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct Shapes([u8; 64]);
    static SHAPES: Shapes = {
        let mut shapes = [0; 64];
        shapes[0] = 1;
        let mut t = 0;
        while t < 8 {
            (shapes[16 + 2 * t], shapes[48 + t]) = (64, 16);
            t += 1;
        }
        Shapes(shapes)
    };

    /// Twelve products of tile registers, on six sums.
    ///
    /// # Safety
    /// The CPU has AMX, and the system lets this process use it.
    pub unsafe fn amx(rounds: u64) -> u64 {
        // SAFETY: the caller vouches for the instructions; only tile registers change, which nothing else uses.
        unsafe {
            asm!(
                "ldtilecfg [{shapes}]",
                "2:",
                "tdpbssd tmm0, tmm6, tmm7",
                "tdpbssd tmm1, tmm6, tmm7",
                "tdpbssd tmm2, tmm6, tmm7",
                "tdpbssd tmm3, tmm6, tmm7",
                "tdpbssd tmm4, tmm6, tmm7",
                "tdpbssd tmm5, tmm6, tmm7",
                "tdpbssd tmm0, tmm6, tmm7",
                "tdpbssd tmm1, tmm6, tmm7",
                "tdpbssd tmm2, tmm6, tmm7",
                "tdpbssd tmm3, tmm6, tmm7",
                "tdpbssd tmm4, tmm6, tmm7",
                "tdpbssd tmm5, tmm6, tmm7",
                "dec {rounds}",
                "jnz 2b",
                "tilerelease",
                shapes = in(reg) &SHAPES,
                rounds = inout(reg) rounds.max(1) => _,
                options(readonly, nostack),
            );
        }
        16 * 16 * 64
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::asm;

    /// As on x86.
    macro_rules! peak {
        ($name:ident, $macs:literal, $extension:literal, $instruction:literal) => {
            /// # Safety
            /// The CPU has the instruction.
            pub unsafe fn $name(rounds: u64) -> u64 {
                // SAFETY: the caller vouches for the instruction; vector registers are declared as overwritten.
                unsafe {
                    asm!(
                        concat!(".arch_extension ", $extension),
                        "2:",
                        concat!($instruction, " v0.4s, v30.16b, v31.16b"),
                        concat!($instruction, " v1.4s, v30.16b, v31.16b"),
                        concat!($instruction, " v2.4s, v30.16b, v31.16b"),
                        concat!($instruction, " v3.4s, v30.16b, v31.16b"),
                        concat!($instruction, " v4.4s, v30.16b, v31.16b"),
                        concat!($instruction, " v5.4s, v30.16b, v31.16b"),
                        concat!($instruction, " v6.4s, v30.16b, v31.16b"),
                        concat!($instruction, " v7.4s, v30.16b, v31.16b"),
                        concat!($instruction, " v16.4s, v30.16b, v31.16b"),
                        concat!($instruction, " v17.4s, v30.16b, v31.16b"),
                        concat!($instruction, " v18.4s, v30.16b, v31.16b"),
                        concat!($instruction, " v19.4s, v30.16b, v31.16b"),
                        "subs {rounds}, {rounds}, #1",
                        "b.ne 2b",
                        rounds = inout(reg) rounds.max(1) => _,
                        out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _,
                        out("v7") _, out("v16") _, out("v17") _, out("v18") _, out("v19") _,
                        options(nomem, nostack),
                    );
                }
                $macs
            }
        };
    }

    peak!(dotprod, 16, "dotprod", "sdot");
    peak!(i8mm, 32, "i8mm", "smmla");
}

/// The CPU as the system names it.
pub fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| format!("an {} CPU", std::env::consts::ARCH), |(_, name)| name.to_owned())
}

/// The commit that is measured.
pub fn commit() -> String {
    let git = std::process::Command::new("git").args(["describe", "--always", "--dirty"]).output();
    git.ok().and_then(|out| String::from_utf8(out.stdout).ok()).unwrap_or_default().trim().to_owned()
}
