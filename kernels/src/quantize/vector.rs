//! Arithmetic on sixteen lanes, spelled as arithmetic.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use crate::simd::lanes::Lanes;

/// The weight, scale or sum of sixteen blocks: a block has a lane, and lanes never meet.
#[derive(Clone, Copy)]
pub(crate) struct Vector<S: Lanes>(S, S::F);

/// Added and taken off again, it rounds what is smaller than 2²² to the nearest integer, ties to even.
const ROUNDER: f32 = (3 << 22) as f32;

impl<S: Lanes> Vector<S> {
    #[inline(always)]
    pub fn splat(s: S, x: f32) -> Self {
        Vector(s, s.splat(x))
    }

    #[inline(always)]
    pub fn load(s: S, x: &[f32; 16]) -> Self {
        Vector(s, s.load(x))
    }

    #[inline(always)]
    pub fn store(self, out: &mut [f32; 16]) {
        self.0.store(self.1, out);
    }

    #[inline(always)]
    pub fn to_array(self) -> [f32; 16] {
        let mut out = [0.0; 16];
        self.store(&mut out);
        out
    }

    #[inline(always)]
    pub fn zero(self) -> Self {
        Self::splat(self.0, 0.0)
    }

    /// `if self < other { x } else { y }`
    #[inline(always)]
    pub fn if_less(self, other: Self, x: Self, y: Self) -> Self {
        Vector(self.0, self.0.select_lt(self.1, other.1, x.1, y.1))
    }

    /// `self · factor + addend`, rounded once.
    #[inline(always)]
    pub fn times_plus(self, factor: f32, addend: Self) -> Self {
        Vector(self.0, self.0.fma(self.1, self.0.splat(factor), addend.1))
    }

    #[inline(always)]
    pub fn max(self, other: Self) -> Self {
        Vector(self.0, self.0.max(self.1, other.1))
    }

    #[inline(always)]
    pub fn min(self, other: Self) -> Self {
        self.if_less(other, self, other)
    }

    #[inline(always)]
    pub fn clamp(self, low: f32, high: f32) -> Self {
        self.max(Self::splat(self.0, low)).min(Self::splat(self.0, high))
    }

    #[inline(always)]
    pub fn abs(self) -> Self {
        self.max(-self)
    }

    #[inline(always)]
    pub fn sqrt(self) -> Self {
        Vector(self.0, self.0.sqrt(self.1))
    }

    /// The nearest integer, ties to even, where that is smaller than 2²²; something as large elsewhere.
    #[inline(always)]
    pub fn round(self) -> Self {
        let rounder = Self::splat(self.0, ROUNDER);
        self + rounder - rounder
    }

    /// The nearest integer, ties away from zero, with the same limit.
    #[inline(always)]
    pub fn round_half_away(self) -> Self {
        let (even, zero, one) = (self.round(), self.zero(), Self::splat(self.0, 1.0));
        let (rest, half) = (self - even, Self::splat(self.0, 0.5));
        let up = zero.if_less(self, even + one, even);
        let down = self.if_less(zero, even - one, even);
        rest.if_less(half, (-half).if_less(rest, even, down), up)
    }

    /// `1 / self`, and 0 where that is 0.
    #[inline(always)]
    pub fn inverse_or_zero(self) -> Self {
        let inverse = Self::splat(self.0, 1.0) / self;
        self.zero().if_less(self.abs(), inverse, self.zero())
    }
}

macro_rules! operator {
    ($($trait:ident $method:ident)*) => {$(
        impl<S: Lanes> $trait for Vector<S> {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Vector(self.0, self.0.$method(self.1, other.1))
            }
        }
    )*};
}

operator!(Add add Sub sub Mul mul Div div);

impl<S: Lanes> AddAssign for Vector<S> {
    #[inline(always)]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl<S: Lanes> Neg for Vector<S> {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        self.zero() - self
    }
}
