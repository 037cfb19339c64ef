//! The tile registers of AMX, eight of 16 rows by 64 bytes, through `asm!` (Rust's intrinsics for them are not stable).
//!
//! Nothing else in a program touches these registers: no compiler allocates them, and a system call or a switch to another thread keeps
//! them. So what one statement leaves in a register, the next one finds. (Intel 64 and IA-32 Architectures Software Developer's Manual,
//! volume 1, chapter 18.)

use std::arch::asm;

/// Rows of a register.
pub(super) const TILE_ROWS: usize = 16;

/// Bytes in a row of a register.
pub(super) const TILE_BYTES: usize = 64;

/// The shapes of the eight registers, as `ldtilecfg` reads them.
#[repr(C, align(64))]
pub(super) struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    pub(super) row_bytes: [u16; 16],
    pub(super) rows: [u8; 16],
}

impl Shapes {
    /// Registers of 16 rows of 64 bytes.
    pub(super) const WHOLE: Shapes = {
        let mut shapes =
            Shapes { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        let mut t = 0;
        while t < 8 {
            (shapes.row_bytes[t], shapes.rows[t]) = (TILE_BYTES as u16, TILE_ROWS as u8);
            t += 1;
        }
        shapes
    };

    /// These shapes with `rows` rows of `row_bytes` bytes for register `t`.
    pub(super) const fn with(mut self, t: usize, rows: u8, row_bytes: u16) -> Shapes {
        (self.rows[t], self.row_bytes[t]) = (rows, row_bytes);
        self
    }
}

/// Tile registers 0 to 7: those of the CPU, or in tests an emulation of them.
pub(super) trait TileRegisters {
    /// Register `T` = 0.
    fn zero<const T: u8>(&self);

    /// Register `T` = as many of the rows as it has, and as many bytes of each from byte `at` on.
    ///
    /// # Panics
    /// If there are fewer rows or bytes.
    fn load_after<const T: u8>(&self, rows: &[[u8; TILE_BYTES]], at: usize);

    /// Writes the rows of register `T`, which are whole, one after the other.
    fn store<const T: u8>(&self, out: &mut [[i32; 16]; TILE_ROWS]);

    /// Dword `j` of row `i` of register `C` += Σ over groups `g` of four bytes: row `i` of `A`, signed, group `g`, times dword `j` of row
    /// `g` of `B`, unsigned.
    fn dot_unsigned<const C: u8, const A: u8, const B: u8>(&self);

    /// [`TileRegisters::dot_unsigned`] with signed bytes in `B`.
    fn dot_signed<const C: u8, const A: u8, const B: u8>(&self);

    /// Register `T` = as many of the rows as it has, and as many bytes of each.
    ///
    /// # Panics
    /// If there are fewer rows.
    #[inline(always)]
    fn load<const T: u8>(&self, rows: &[[u8; TILE_BYTES]]) {
        self.load_after::<T>(rows, 0);
    }
}

/// The CPU's registers in use: cleared and given back when dropped, so that context switches need not save them.
pub(super) struct Registers(&'static Shapes);

impl Registers {
    /// Sets the registers' shapes, and all of them to 0.
    ///
    /// # Safety
    /// The CPU has AMX, and the system lets this process use it.
    pub(super) unsafe fn new(shapes: &'static Shapes) -> Registers {
        // SAFETY: the caller vouches for the instruction; the shapes are those the first palette allows.
        unsafe { asm!("ldtilecfg [{}]", in(reg) shapes, options(readonly, nostack, preserves_flags)) };
        Registers(shapes)
    }
}

impl TileRegisters for Registers {
    #[inline(always)]
    fn zero<const T: u8>(&self) {
        // SAFETY: `self` says that the registers are set up, and only registers change.
        unsafe { asm!("tilezero tmm{t}", t = const T, options(nomem, nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn load_after<const T: u8>(&self, rows: &[[u8; TILE_BYTES]], at: usize) {
        assert!(rows.len() >= self.0.rows[T as usize] as usize);
        assert!(at + self.0.row_bytes[T as usize] as usize <= TILE_BYTES);
        let (p, stride) = (rows.as_ptr().wrapping_byte_add(at), TILE_BYTES);
        // SAFETY: the rows were just seen to be there, and only a register changes.
        unsafe {
            asm!("tileloadd tmm{t}, [{p} + {stride}*1]", t = const T, p = in(reg) p, stride = in(reg) stride,
                options(readonly, nostack, preserves_flags));
        }
    }

    #[inline(always)]
    fn store<const T: u8>(&self, out: &mut [[i32; 16]; TILE_ROWS]) {
        // SAFETY: sixteen rows of 64 bytes are ours to write.
        unsafe {
            asm!("tilestored [{p} + {stride}*1], tmm{t}", t = const T, p = in(reg) out.as_mut_ptr(),
                stride = in(reg) TILE_BYTES, options(nostack, preserves_flags));
        }
    }

    #[inline(always)]
    fn dot_unsigned<const C: u8, const A: u8, const B: u8>(&self) {
        // SAFETY: as in `zero`.
        unsafe {
            asm!("tdpbsud tmm{c}, tmm{a}, tmm{b}", c = const C, a = const A, b = const B,
                options(nomem, nostack, preserves_flags));
        }
    }

    #[inline(always)]
    fn dot_signed<const C: u8, const A: u8, const B: u8>(&self) {
        // SAFETY: as in `zero`.
        unsafe {
            asm!("tdpbssd tmm{c}, tmm{a}, tmm{b}", c = const C, a = const A, b = const B,
                options(nomem, nostack, preserves_flags));
        }
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        // SAFETY: only registers change, and nobody needs them any more.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}
