! The elements of jax_elements.py in Fortran: K(j, i, e) is entry (i, j) of element e.
module truss_elements
    use, intrinsic :: iso_c_binding, only: c_int, c_double
    implicit none

contains

    pure function base(angle) result(K)
        real(c_double), intent(in) :: angle
        real(c_double) :: K(3, 3), row(3), column(3)
        integer :: i
        row = [cos(angle), sin(angle), -cos(angle)]
        column = [cos(angle), 2 * sin(angle), 0.5_c_double]
        do i = 1, 3
            K(:, i) = row(i) * column
        end do
    end function

    integer(c_int) function truss(count, area, length, angle, K) bind(C)
        integer(c_int), value :: count
        real(c_double), intent(in) :: area(2, count), length(count), angle(count)
        real(c_double), intent(inout) :: K(3, 3, count)
        integer :: e
        do e = 1, count
            truss = e
            if (length(e) <= 0) return
            K(:, :, e) = area(1, e)**2 * area(2, e) / length(e) * base(angle(e))
        end do
        truss = 0
    end function

    integer(c_int) function truss_tangent( &
            count, area, length, angle, area_dot, length_dot, K_dot) bind(C)
        integer(c_int), value :: count
        real(c_double), intent(in) :: area(2, count), length(count), angle(count)
        real(c_double), intent(in) :: area_dot(2, count), length_dot(count)
        real(c_double), intent(inout) :: K_dot(3, 3, count)
        integer :: e
        do e = 1, count
            associate (a => area(:, e), l => length(e))
                K_dot(:, :, e) = base(angle(e)) * ( &
                    2 * a(1) * a(2) / l * area_dot(1, e) + a(1)**2 / l * area_dot(2, e) &
                    - a(1)**2 * a(2) / l**2 * length_dot(e))
            end associate
        end do
        truss_tangent = 0
    end function

    integer(c_int) function truss_vjp( &
            count, area, length, angle, K_bar, area_bar, length_bar) bind(C)
        integer(c_int), value :: count
        real(c_double), intent(in) :: area(2, count), length(count), angle(count)
        real(c_double), intent(in) :: K_bar(3, 3, count)
        real(c_double), intent(inout) :: area_bar(2, count), length_bar(count)
        real(c_double) :: s_bar
        integer :: e
        do e = 1, count
            associate (a => area(:, e), l => length(e))
                s_bar = sum(K_bar(:, :, e) * base(angle(e)))
                area_bar(:, e) = [2 * a(1) * a(2), a(1)**2] / l * s_bar
                length_bar(e) = -a(1)**2 * a(2) / l**2 * s_bar
            end associate
        end do
        truss_vjp = 0
    end function

end module
