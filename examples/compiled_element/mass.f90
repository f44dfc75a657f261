! Beams of a plane frame, width b and height h: mass matrix (6, 6) and its derivative.
!
!     gfortran -O2 -shared -fPIC -o mass.so mass.f90
!
! K(j, i, e) is entry (i, j) of element e.
module mass_of_beams
    use, intrinsic :: iso_c_binding, only: c_int, c_double
    implicit none
    private
    real(c_double), parameter :: density = 7850  ! kg/m^3

contains

    ! The mass matrix of a beam of cross section 1 between two nodes, u, v, rotation at each.
    pure function unit_mass(nodes) result(M)
        real(c_double), intent(in) :: nodes(2, 2)
        real(c_double) :: M(6, 6), R(6, 6), d(2), L
        d = nodes(:, 2) - nodes(:, 1)
        L = norm2(d)
        d = d / L
        M = 0
        M([1, 4], [1, 4]) = reshape([140, 70, 70, 140], [2, 2])
        M([2, 5], [2, 5]) = reshape([156, 54, 54, 156], [2, 2])
        M([3, 6], [3, 6]) = L**2 * reshape([4, -3, -3, 4], [2, 2])
        M([3, 6], [2, 5]) = L * reshape([22, -13, 13, -22], [2, 2])
        M([2, 5], [3, 6]) = transpose(M([3, 6], [2, 5]))
        R = 0  ! global freedoms to those along and across the beam
        R([1, 2], [1, 2]) = reshape([d(1), -d(2), d(2), d(1)], [2, 2])
        R([4, 5], [4, 5]) = R([1, 2], [1, 2])
        R(3, 3) = 1
        R(6, 6) = 1
        M = density * L / 420 * matmul(transpose(R), matmul(M, R))
    end function

    integer(c_int) function mass(count, width, height, nodes, K) bind(C)
        integer(c_int), value :: count
        real(c_double), intent(in) :: width(count), height(count), nodes(2, 2, count)
        real(c_double), intent(inout) :: K(6, 6, count)
        integer :: e
        do e = 1, count
            K(:, :, e) = width(e) * height(e) * unit_mass(nodes(:, :, e))
        end do
        mass = 0
    end function

    integer(c_int) function mass_tangent( &
            count, width, height, nodes, width_dot, height_dot, K_dot) bind(C)
        integer(c_int), value :: count
        real(c_double), intent(in) :: width(count), height(count), nodes(2, 2, count)
        real(c_double), intent(in) :: width_dot(count), height_dot(count)
        real(c_double), intent(inout) :: K_dot(6, 6, count)
        integer :: e
        do e = 1, count
            K_dot(:, :, e) = (width_dot(e) * height(e) + width(e) * height_dot(e)) &
                * unit_mass(nodes(:, :, e))
        end do
        mass_tangent = 0
    end function

end module
