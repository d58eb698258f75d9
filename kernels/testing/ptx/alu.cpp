// Arithmetic: each instruction is a loop over 32 lanes, which compilers turn to vectors.
#include "text.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

namespace ptx {
namespace {

template <class D, class A, class F>
void run_unary(Warp& w, const Inst& i, u32 lanes) {
  const Slot<A>* const a = slots<A>(w, i.a);
  Slot<D> out[32];
  for (int l = 0; l < 32; l++) out[l] = bits_of<D>(static_cast<D>(F::of(value_of<A>(a[l]))));
  put(w, i.d, out, lanes);
}
template <class D, class A, class B, class F>
void run_binary(Warp& w, const Inst& i, u32 lanes) {
  const Slot<A>* const a = slots<A>(w, i.a);
  const Slot<B>* const b = slots<B>(w, i.b);
  Slot<D> out[32];
  for (int l = 0; l < 32; l++) out[l] = bits_of<D>(static_cast<D>(F::of(value_of<A>(a[l]), value_of<B>(b[l]))));
  put(w, i.d, out, lanes);
}
template <class D, class A, class C, class F>
void run_ternary(Warp& w, const Inst& i, u32 lanes) {
  const Slot<A>*const a = slots<A>(w, i.a), *const b = slots<A>(w, i.b);
  const Slot<C>* const c = slots<C>(w, i.c);
  Slot<D> out[32];
  for (int l = 0; l < 32; l++) {
    out[l] = bits_of<D>(static_cast<D>(F::of(value_of<A>(a[l]), value_of<A>(b[l]), value_of<C>(c[l]))));
  }
  put(w, i.d, out, lanes);
}
template <class T>
constexpr u8 kLane = sizeof(T) == 8 ? 8 : 4;
template <class D, class A, class F>
Alu unary() {
  return {run_unary<D, A, F>, kLane<D>, kLane<A>, 0, 0, std::is_signed_v<D>};
}
template <class D, class A, class B, class F>
Alu binary() {
  return {run_binary<D, A, B, F>, kLane<D>, kLane<A>, kLane<B>, 0, std::is_signed_v<D>};
}
template <class D, class A, class C, class F>
Alu ternary() {
  return {run_ternary<D, A, C, F>, kLane<D>, kLane<A>, kLane<A>, kLane<C>, std::is_signed_v<D>};
}

template <class T>
constexpr bool kInteger = std::is_integral_v<T>;
template <class T>
using Unsigned = typename std::conditional_t<kInteger<T>, std::make_unsigned<T>, std::enable_if<true, T>>::type;

#define TKF_UNARY(name, result)                \
  struct name {                                \
    template <class T>                         \
    static T of(T a) {                         \
      using U [[maybe_unused]] = Unsigned<T>;  \
      return static_cast<T>(result);           \
    }                                          \
  };
#define TKF_BINARY(name, result)               \
  struct name {                                \
    template <class T>                         \
    static T of(T a, T b) {                    \
      using U [[maybe_unused]] = Unsigned<T>;  \
      return static_cast<T>(result);           \
    }                                          \
  };
TKF_BINARY(Add, U(a) + U(b))
TKF_BINARY(Sub, U(a) - U(b))
TKF_BINARY(And, a & b)
TKF_BINARY(Or, a | b)
TKF_BINARY(Xor, a ^ b)
TKF_UNARY(Not, ~a)
TKF_UNARY(Move, a)
TKF_UNARY(Negate, kInteger<T> ? T(U(0) - U(a)) : T(-a))
TKF_UNARY(Absolute, a < 0 ? Negate::of(a) : kInteger<T> ? a : T(std::fabs(static_cast<double>(a))))
TKF_UNARY(Sqrt, std::sqrt(a))
TKF_UNARY(Reciprocal, T(1) / a)
TKF_UNARY(Floor, std::floor(a))
TKF_UNARY(Trunc, std::trunc(a))
TKF_UNARY(Round, std::nearbyint(a))
TKF_UNARY(Saturate, a > 0 ? std::min(a, T(1)) : T(0))
struct Mul {
  template <class T>
  static T of(T a, T b) {
    if constexpr (kInteger<T>) return static_cast<T>(static_cast<u64>(a) * static_cast<u64>(b));
    else return a * b;
  }
};
// Of a number and NaN the number; -0 below 0.
template <bool LEAST>
struct Extreme {
  template <class T>
  static T of(T a, T b) {
    if constexpr (!kInteger<T>) {
      if (a != a) return b;
      if (b != b) return a;
      if (a == b) return std::signbit(a) == LEAST ? a : b;
    }
    return (a < b) == LEAST ? a : b;
  }
};
struct Div {
  template <class T>
  static T of(T a, T b) {
    if constexpr (kInteger<T>) {
      if (b == 0) return static_cast<T>(~T(0));
      if (std::is_signed_v<T> && b == static_cast<T>(-1)) return Negate::of(a);
    }
    return static_cast<T>(a / b);
  }
};
struct Rem {
  template <class T>
  static T of(T a, T b) {
    if (b == 0) return a;
    if (std::is_signed_v<T> && b == static_cast<T>(-1)) return 0;
    return static_cast<T>(a % b);
  }
};
struct ShiftLeft {
  template <class T>
  static T of(T a, u32 by) {
    return by >= 8 * sizeof(T) ? T(0) : static_cast<T>(a << by);
  }
};
struct ShiftRight {
  template <class T>
  static T of(T a, u32 by) {
    if (by < 8 * sizeof(T)) return static_cast<T>(a >> by);
    return std::is_signed_v<T> && a < 0 ? static_cast<T>(-1) : T(0);
  }
};
struct MulHigh {
  template <class T>
  static T of(T a, T b) {
    using Wide = std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>;
    return static_cast<T>(static_cast<Wide>(a) * b >> 8 * sizeof(T));
  }
};
template <class W>
struct MulWide {
  template <class T>
  static W of(T a, T b) {
    return static_cast<W>(a) * static_cast<W>(b);
  }
};
struct MulAdd {
  template <class T>
  static T of(T a, T b, T c) {
    return static_cast<T>(static_cast<u64>(a) * static_cast<u64>(b) + static_cast<u64>(c));
  }
};
struct Fma {
  template <class T>
  static T of(T a, T b, T c) {
    return std::fma(a, b, c);
  }
};
struct FmaDown {  // rounded towards minus infinity: the product is exact in double, and so is the error of the sum
  static float of(float a, float b, float c) {
    const double product = static_cast<double>(a) * b, sum = product + c, part = sum - product,
                 error = (product - (sum - part)) + (c - part);
    const float nearest = static_cast<float>(sum);
    if (!std::isfinite(sum)) return nearest;
    return nearest > sum || (nearest == sum && error < 0) ? std::nextafter(nearest, -INFINITY) : nearest;
  }
};
struct PopCount {
  template <class T>
  static u32 of(T a) {
    return static_cast<u32>(__builtin_popcountll(a));
  }
};
struct LeadingZeros {
  template <class T>
  static u32 of(T a) {
    constexpr u32 bits = 8 * sizeof(T);
    return a == 0 ? bits : static_cast<u32>(__builtin_clzll(a)) - (64 - bits);
  }
};
struct ShiftOfTop {  // by which the highest bit that is set comes to the top
  template <class T>
  static u32 of(T a) {
    return a == 0 ? ~0u : LeadingZeros::of(a);
  }
};
struct Reverse {
  template <class T>
  static T of(T a) {
    T out = 0;
    for (size_t j = 0; j < 8 * sizeof(T); j++) out = static_cast<T>(out << 1 | (a >> j & 1));
    return out;
  }
};
struct Permute {
  static u32 of(u32 a, u32 b, u32 selector) {
    const u64 bytes = static_cast<u64>(b) << 32 | a;
    u32 out = 0;
    for (u32 j = 0; j < 4; j++) {
      const u32 s = selector >> 4 * j, byte = static_cast<u32>(bytes >> 8 * (s & 7)) & 255;
      out |= (s & 8 ? (byte & 128 ? 255u : 0u) : byte) << 8 * j;
    }
    return out;
  }
};
// ---- approximations: exact here, or off by some units in the last place ----

float noisy(float x) {
  const u32 most = options().noise;
  if (most == 0 || x == 0 || !std::isfinite(x)) return x;
  const u32 bits = bits_of(x);
  return value_of<float>(bits + (bits * 2654435761u >> 16) % (2 * most + 1) - most);
}
float flush(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }
struct Exp2 {
  static float of(float a) { return noisy(flush(static_cast<float>(std::exp2(static_cast<double>(flush(a)))))); }
};
// Of doubles, the upper 32 bits alone.
double upper(double x) { return value_of<double>(bits_of(x) & ~u64{0xffffffff}); }
struct UpperReciprocal {
  static double of(double a) {
    a = upper(a);
    const double r = 1 / a;
    if (std::fabs(a) < 0x1p-1022) return std::copysign(INFINITY, a);
    return r == r && std::fabs(r) < 0x1p-1022 ? std::copysign(0.0, r) : upper(r);
  }
};

// ---- conversions ----

template <class D>
struct Cast {
  template <class T>
  static D of(T a) {
    return static_cast<D>(a);
  }
};
template <class I, class ROUND>
struct ToInteger {  // saturates; NaN becomes 0
  template <class T>
  static I of(T a) {
    const T whole = ROUND::of(a);
    constexpr int bits = std::numeric_limits<I>::digits;
    if (!(whole == whole)) return 0;
    if (whole >= std::ldexp(T(1), bits)) return std::numeric_limits<I>::max();
    if (whole < (std::is_signed_v<I> ? -std::ldexp(T(1), bits) : T(0))) return std::numeric_limits<I>::min();
    return static_cast<I>(whole);
  }
};
struct ToHalf {
  static u16 of(float a) { return to_half(a); }
};
struct FromHalf {
  static float of(u16 a) { return from_half(a); }
};
struct ToBf16 {
  static u16 of(float a) { return to_bf16(a); }
};
struct FromBf16 {
  static float of(u16 a) { return from_bf16(a); }
};
template <u16 (*CONVERT)(float)>
struct ToPair {  // the first operand goes to the upper half
  static u32 of(float a, float b) { return u32{CONVERT(a)} << 16 | CONVERT(b); }
};
struct SubHalves {  // a difference of f16 is exact enough in f32 that rounding twice is rounding once
  static u32 of(u32 a, u32 b) {
    const auto one = [](u32 x, u32 y) {
      return u32{to_half(from_half(static_cast<u16>(x)) - from_half(static_cast<u16>(y)))};
    };
    return one(a, b) | one(a >> 16, b >> 16) << 16;
  }
};

// ---- those with operands of their own ----

template <class T>
void run_insert(Warp& w, const Inst& i, u32 lanes) {
  const Slot<T>*const a = slots<T>(w, i.a), *const b = slots<T>(w, i.b);
  const u32 *const at = slots<u32>(w, i.c), *const length = slots<u32>(w, i.e);
  Slot<T> out[32];
  constexpr u32 bits = 8 * sizeof(T);
  for (int l = 0; l < 32; l++) {
    const u32 from = at[l] & 255, count = length[l] & 255;
    const T mask = from >= bits ? T(0) : ShiftLeft::of(count >= bits ? ~T(0) : ((T(1) << count) - 1), from);
    out[l] = (b[l] & ~mask) | (ShiftLeft::of(a[l], from) & mask);
  }
  put(w, i.d, out, lanes);
}
template <class T>
void run_select(Warp& w, const Inst& i, u32 lanes) {
  const u32 p = operand_predicate(w, i);
  const Slot<T>*const a = slots<T>(w, i.a), *const b = slots<T>(w, i.b);
  Slot<T> out[32];
  for (int l = 0; l < 32; l++) out[l] = p >> l & 1 ? a[l] : b[l];
  put(w, i.d, out, lanes);
}
template <class T, class F>
void run_compare(Warp& w, const Inst& i, u32 lanes) {
  const Slot<T>*const a = slots<T>(w, i.a), *const b = slots<T>(w, i.b);
  u32 holds[32], out = 0;
  for (int l = 0; l < 32; l++) holds[l] = F::of(value_of<T>(a[l]), value_of<T>(b[l]));
  for (u32 l = 0; l < 32; l++) out |= holds[l] << l;
  set_predicate(w, i.p, out, lanes);
}
#define TKF_COMPARISON(name, result) \
  struct name {                      \
    template <class T>               \
    static u32 of(T a, T b) {        \
      return result;                 \
    }                                \
  };
TKF_COMPARISON(Equal, a == b)
TKF_COMPARISON(Differ, a < b || a > b)
TKF_COMPARISON(Less, a < b)
TKF_COMPARISON(AtMost, a <= b)
TKF_COMPARISON(Numbers, a == a && b == b)
template <class F>
struct Swapped {
  template <class T>
  static u32 of(T a, T b) {
    return F::of(b, a);
  }
};
template <class F>
struct Fails {  // true also with NaN
  template <class T>
  static u32 of(T a, T b) {
    return !F::of(a, b);
  }
};
template <class T>
Execute find_compare(const std::string& c) {
  if (c == "eq") return run_compare<T, Equal>;
  if (c == "ne") return run_compare<T, Differ>;
  if (c == "lt") return run_compare<T, Less>;
  if (c == "le") return run_compare<T, AtMost>;
  if (c == "gt") return run_compare<T, Swapped<Less>>;
  if (c == "ge") return run_compare<T, Swapped<AtMost>>;
  if constexpr (!kInteger<T>) {
    if (c == "neu") return run_compare<T, Fails<Equal>>;
    if (c == "ltu") return run_compare<T, Fails<Swapped<AtMost>>>;
    if (c == "leu") return run_compare<T, Fails<Swapped<Less>>>;
    if (c == "gtu") return run_compare<T, Fails<AtMost>>;
    if (c == "geu") return run_compare<T, Fails<Less>>;
    if (c == "num") return run_compare<T, Numbers>;
    if (c == "nan") return run_compare<T, Fails<Numbers>>;
  }
  return nullptr;
}

// Calls make() with a value of the type of a name; Alu() where there is none.
template <class F>
Alu by_integer(const std::string& t, F make) {
  if (t == "s32") return make(i32());
  if (t == "u32" || t == "b32") return make(u32());
  if (t == "s64") return make(i64());
  if (t == "u64" || t == "b64") return make(u64());
  if (t == "s16") return make(i16());
  if (t == "u16" || t == "b16") return make(u16());
  return {};
}
template <class F>
Alu by_float(const std::string& t, F make) {
  if (t == "f32") return make(float());
  if (t == "f64") return make(double());
  return {};
}
template <class F>
Alu by_number(const std::string& t, F make) {
  const Alu found = by_integer(t, make);
  return found.run == nullptr ? by_float(t, make) : found;
}
#define TKF_OF_TYPE(...) [](auto x) { using T = decltype(x); return __VA_ARGS__; }

template <class D>
Alu from_integer(const std::string& s) {
  if (s == "s8") return unary<D, i8, Cast<D>>();
  if (s == "u8") return unary<D, u8, Cast<D>>();
  return by_integer(s, TKF_OF_TYPE(unary<D, T, Cast<D>>()));
}
template <class D, class S>
Alu to_integer(const Parts& p) {
  if (has(p, "rzi")) return unary<D, S, ToInteger<D, Trunc>>();
  if (has(p, "rni")) return unary<D, S, ToInteger<D, Round>>();
  if (has(p, "rmi")) return unary<D, S, ToInteger<D, Floor>>();
  return {};
}
Alu find_conversion(const Parts& p) {
  const std::string &s = p.back(), &d = p[p.size() - 2];
  const bool nearest = has(p, "rn");
  if (has(p, "relu")) return {};
  if (has(p, "sat")) return d == "f32" && s == "f32" ? unary<float, float, Saturate>() : Alu();
  if (nearest && s == "f32") {
    if (d == "f16x2") return binary<u32, float, float, ToPair<to_half>>();
    if (d == "bf16x2") return binary<u32, float, float, ToPair<to_bf16>>();
    if (d == "f16") return unary<u16, float, ToHalf>();
    if (d == "bf16") return unary<u16, float, ToBf16>();
  }
  if (d == "f32" && s == "f16") return unary<float, u16, FromHalf>();
  if (d == "f32" && s == "bf16") return unary<float, u16, FromBf16>();
  if (d == s) {
    const Alu rounded = by_float(d, [&](auto x) {
      using T = decltype(x);
      if (has(p, "rni")) return unary<T, T, Round>();
      if (has(p, "rmi")) return unary<T, T, Floor>();
      return has(p, "rzi") ? unary<T, T, Trunc>() : unary<T, T, Move>();
    });
    if (rounded.run != nullptr) return rounded;
  }
  if (d == "f64" && s == "f32") return unary<double, float, Cast<double>>();
  if (d == "f32" && s == "f64" && nearest) return unary<float, double, Cast<float>>();
  if (nearest && s[0] != 'f') return by_float(d, [&](auto x) { return from_integer<decltype(x)>(s); });
  if (d == "u8" && s[0] != 'f') return from_integer<u8>(s);
  if (d == "s8" && s[0] != 'f') return from_integer<i8>(s);
  return by_integer(d, [&](auto x) {
    using T = decltype(x);
    return s == "f32" ? to_integer<T, float>(p) : s == "f64" ? to_integer<T, double>(p) : from_integer<T>(s);
  });
}

}  // namespace

Alu find_alu(const Parts& p) {
  const std::string &o = p[0], &t = p.back();
  if (o == "cvt") return find_conversion(p);
  if (has(p, "approx")) {
    if (o == "ex2" && t == "f32" && has(p, "ftz")) return unary<float, float, Exp2>();
    return o == "rcp" && t == "f64" ? unary<double, double, UpperReciprocal>() : Alu();
  }
  if (has(p, "ftz") || has(p, "full")) return {};
  if (t == "f16x2") return o == "sub" ? binary<u32, u32, u32, SubHalves>() : Alu();
  if (o == "mov") return by_number(t, TKF_OF_TYPE(unary<T, T, Move>()));
  if (has(p, "rz") || has(p, "rp") || has(p, "sat") || has(p, "cc")) return {};
  if (o == "fma") {
    if (has(p, "rm")) return t == "f32" ? ternary<float, float, float, FmaDown>() : Alu();
    return by_float(t, TKF_OF_TYPE(ternary<T, T, T, Fma>()));
  }
  if (has(p, "rm")) return {};
  if (o == "add") return by_number(t, TKF_OF_TYPE(binary<T, T, T, Add>()));
  if (o == "sub") return by_number(t, TKF_OF_TYPE(binary<T, T, T, Sub>()));
  if (o == "min") return by_number(t, TKF_OF_TYPE(binary<T, T, T, Extreme<true>>()));
  if (o == "max") return by_number(t, TKF_OF_TYPE(binary<T, T, T, Extreme<false>>()));
  if (o == "neg") return by_number(t, TKF_OF_TYPE(unary<T, T, Negate>()));
  if (o == "abs") return by_number(t, TKF_OF_TYPE(unary<T, T, Absolute>()));
  if (o == "mul" && has(p, "wide")) {
    if (t == "s32") return binary<i64, i32, i32, MulWide<i64>>();
    if (t == "u32") return binary<u64, u32, u32, MulWide<u64>>();
    return t == "u16" ? binary<u32, u16, u16, MulWide<u32>>() : Alu();
  }
  if (o == "mul" && has(p, "hi")) return by_integer(t, TKF_OF_TYPE(binary<T, T, T, MulHigh>()));
  if (o == "mul") return by_number(t, TKF_OF_TYPE(binary<T, T, T, Mul>()));
  if (o == "mad" && has(p, "lo")) return by_integer(t, TKF_OF_TYPE(ternary<T, T, T, MulAdd>()));
  if (o == "div") return by_number(t, TKF_OF_TYPE(binary<T, T, T, Div>()));
  if (o == "rem") return by_integer(t, TKF_OF_TYPE(binary<T, T, T, Rem>()));
  if (o == "and") return by_integer(t, TKF_OF_TYPE(binary<T, T, T, And>()));
  if (o == "or") return by_integer(t, TKF_OF_TYPE(binary<T, T, T, Or>()));
  if (o == "xor") return by_integer(t, TKF_OF_TYPE(binary<T, T, T, Xor>()));
  if (o == "not") return by_integer(t, TKF_OF_TYPE(unary<T, T, Not>()));
  if (o == "shl") return by_integer(t, TKF_OF_TYPE(binary<T, T, u32, ShiftLeft>()));
  if (o == "shr") return by_integer(t, TKF_OF_TYPE(binary<T, T, u32, ShiftRight>()));
  if (o == "prmt") return p.size() == 2 ? ternary<u32, u32, u32, Permute>() : Alu();
  if (o == "popc" && t == "b32") return unary<u32, u32, PopCount>();
  if (o == "clz") return t == "b64" ? unary<u32, u64, LeadingZeros>() : unary<u32, u32, LeadingZeros>();
  if (o == "brev" && t == "b32") return unary<u32, u32, Reverse>();
  if (o == "bfind" && t == "u32" && has(p, "shiftamt")) return unary<u32, u32, ShiftOfTop>();
  if (o == "sqrt") return by_float(t, TKF_OF_TYPE(unary<T, T, Sqrt>()));
  if (o == "rcp") return by_float(t, TKF_OF_TYPE(unary<T, T, Reciprocal>()));
  if (o == "bfi") return t == "b64" ? Alu{run_insert<u64>, 8, 8, 8, 4} : Alu{run_insert<u32>, 4, 4, 4, 4};
  if (o == "selp") return by_number(t, TKF_OF_TYPE(Alu{run_select<T>, kLane<T>, kLane<T>, kLane<T>}));
  if (o == "setp" && p.size() == 3) {
    return by_number(t, [&](auto x) {
      using T = decltype(x);
      return Alu{find_compare<T>(p[1]), 4, kLane<T>, kLane<T>};
    });
  }
  return {};
}

}  // namespace ptx
