"""Pictures of results: what ``geneig-adjoint plot`` draws; needs neither MPI nor PETSc."""
