"""What the machine has: checks of ``geneig-adjoint doctor``; nothing here may fail."""
