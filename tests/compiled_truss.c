/* The elements of jax_elements.py in C: not symmetric, two entries of one parameter, data. */
#include <complex.h>
#include <math.h>

static const double complex FACTOR = 0.8 + 0.3 * I;

static void base(double angle, double K[9])
{
    const double c = cos(angle), s = sin(angle);
    const double rows[3] = {c, s, -c}, columns[3] = {c, 2 * s, 0.5};
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j)
            K[3 * i + j] = rows[i] * columns[j];
}

static double factor(const double *a, double l) { return a[0] * a[0] * a[1] / l; }

static double factor_dot(const double *a, double l, const double *a_dot, double l_dot)
{
    return (2 * a[0] * a[1] * a_dot[0] + a[0] * a[0] * a_dot[1]) / l - factor(a, l) / l * l_dot;
}

int truss(int count, const double *area, const double *length, const double *angle, double *K)
{
    for (int e = 0; e < count; ++e) {
        double B[9];
        if (length[e] <= 0)
            return e + 1;
        base(angle[e], B);
        for (int i = 0; i < 9; ++i)
            K[9 * e + i] += factor(area + 2 * e, length[e]) * B[i];
    }
    return 0;
}

int truss_tangent(int count, const double *area, const double *length, const double *angle,
                  const double *area_dot, const double *length_dot, double *K_dot)
{
    for (int e = 0; e < count; ++e) {
        const double s =
            factor_dot(area + 2 * e, length[e], area_dot + 2 * e, length_dot[e]);
        double B[9];
        base(angle[e], B);
        for (int i = 0; i < 9; ++i)
            K_dot[9 * e + i] = s * B[i];
    }
    return 0;
}

int truss_vjp(int count, const double *area, const double *length, const double *angle,
              const double *K_bar, double *area_bar, double *length_bar)
{
    for (int e = 0; e < count; ++e) {
        const double *a = area + 2 * e, l = length[e];
        double B[9], s_bar = 0;
        base(angle[e], B);
        for (int i = 0; i < 9; ++i)
            s_bar += K_bar[9 * e + i] * B[i];
        area_bar[2 * e] = 2 * a[0] * a[1] / l * s_bar;
        area_bar[2 * e + 1] = a[0] * a[0] / l * s_bar;
        length_bar[e] = -factor(a, l) / l * s_bar;
    }
    return 0;
}

/* The same times a complex number. */
int lossy(int count, const double *area, const double *length, const double *angle,
          double complex *K)
{
    for (int e = 0; e < count; ++e) {
        double B[9];
        base(angle[e], B);
        for (int i = 0; i < 9; ++i)
            K[9 * e + i] = FACTOR * factor(area + 2 * e, length[e]) * B[i];
    }
    return 0;
}

int lossy_tangent(int count, const double *area, const double *length, const double *angle,
                  const double *area_dot, const double *length_dot, double complex *K_dot)
{
    for (int e = 0; e < count; ++e) {
        const double s =
            factor_dot(area + 2 * e, length[e], area_dot + 2 * e, length_dot[e]);
        double B[9];
        base(angle[e], B);
        for (int i = 0; i < 9; ++i)
            K_dot[9 * e + i] = FACTOR * s * B[i];
    }
    return 0;
}

int lossy_vjp(int count, const double *area, const double *length, const double *angle,
              const double complex *K_bar, double *area_bar, double *length_bar)
{
    for (int e = 0; e < count; ++e) {
        const double *a = area + 2 * e, l = length[e];
        double B[9], s_bar = 0;
        base(angle[e], B);
        for (int i = 0; i < 9; ++i)
            s_bar += creal(conj(K_bar[9 * e + i]) * FACTOR) * B[i];
        area_bar[2 * e] = 2 * a[0] * a[1] / l * s_bar;
        area_bar[2 * e + 1] = a[0] * a[0] / l * s_bar;
        length_bar[e] = -factor(a, l) / l * s_bar;
    }
    return 0;
}

/* Springs of a chain: (0.01 + k^2) times a matrix that is data, real and complex. */
int spring(int count, const double *k, const double *base, double *K)
{
    for (int e = 0; e < count; ++e) {
        if (k[e] <= 0)
            return e + 1;
        for (int i = 0; i < 4; ++i)
            K[4 * e + i] = (0.01 + k[e] * k[e]) * base[4 * e + i];
    }
    return 0;
}

int spring_vjp(int count, const double *k, const double *base, const double *K_bar, double *k_bar)
{
    for (int e = 0; e < count; ++e)
        for (int i = 0; i < 4; ++i)
            k_bar[e] += 2 * k[e] * base[4 * e + i] * K_bar[4 * e + i];
    return 0;
}

int damper(int count, const double *k, const double *re, const double *im, double complex *K)
{
    for (int e = 0; e < count; ++e)
        for (int i = 0; i < 4; ++i)
            K[4 * e + i] = (0.01 + k[e] * k[e]) * (re[4 * e + i] + im[4 * e + i] * I);
    return 0;
}

int damper_tangent(int count, const double *k, const double *re, const double *im,
                   const double *k_dot, double complex *K_dot)
{
    for (int e = 0; e < count; ++e)
        for (int i = 0; i < 4; ++i)
            K_dot[4 * e + i] = 2 * k[e] * k_dot[e] * (re[4 * e + i] + im[4 * e + i] * I);
    return 0;
}
