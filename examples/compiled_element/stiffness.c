/* Beams of a plane frame, width b and height h: stiffness matrix (6, 6) and its derivatives.
 *
 *     cc -O2 -shared -fPIC -o stiffness.so stiffness.c -lm
 *
 * Freedoms of an element: u, v and rotation of its first node, then of its second one.
 */
#include <math.h>

static const double E = 210e9; /* Pa */

/* Of one element: its length, and what it does by each freedom. */
typedef struct {
    double length, stretch[6], bend[6], shear[6];
} Beam;

static Beam beam(const double *nodes) /* x, y of both nodes, m */
{
    const double dx = nodes[2] - nodes[0], dy = nodes[3] - nodes[1], L = hypot(dx, dy);
    const double c = dx / L, s = dy / L;
    const Beam found = {
        .length = L,
        .stretch = {-c, -s, 0, c, s, 0},
        .bend = {0, 0, -1, 0, 0, 1},
        .shear = {-s / L, c / L, 0.5, s / L, -c / L, 0.5},
    };
    return found;
}

int stiffness(int count, const double *width, const double *height, const double *nodes, double *K)
{
    for (int e = 0; e < count; ++e, nodes += 4, K += 36) {
        const Beam at = beam(nodes);
        if (!(at.length > 0))
            return e + 1; /* the element that cannot be done, numbered from 1 */
        const double EA = E * width[e] * height[e], EI = EA * height[e] * height[e] / 12;
        for (int i = 0; i < 6; ++i)
            for (int j = 0; j < 6; ++j)
                K[6 * i + j] = (EA * at.stretch[i] * at.stretch[j] + EI * at.bend[i] * at.bend[j]
                                + 12 * EI * at.shear[i] * at.shear[j]) / at.length;
    }
    return 0;
}

/* Reverse mode: the same steps from the end to the beginning. */
int stiffness_vjp(int count, const double *width, const double *height, const double *nodes,
                  const double *K_bar, double *width_bar, double *height_bar)
{
    for (int e = 0; e < count; ++e, nodes += 4, K_bar += 36) {
        const Beam at = beam(nodes);
        const double b = width[e], h = height[e];
        double EA_bar = 0, EI_bar = 0;
        for (int i = 0; i < 6; ++i)
            for (int j = 0; j < 6; ++j) {
                const double bar = K_bar[6 * i + j] / at.length;
                EA_bar += bar * at.stretch[i] * at.stretch[j];
                EI_bar += bar * (at.bend[i] * at.bend[j] + 12 * at.shear[i] * at.shear[j]);
            }
        width_bar[e] = E * h * (EA_bar + h * h / 12 * EI_bar);
        height_bar[e] = E * b * (EA_bar + h * h / 4 * EI_bar);
    }
    return 0;
}
