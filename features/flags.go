package features

// NumFlags is the number of dense flags.
const NumFlags = 20
