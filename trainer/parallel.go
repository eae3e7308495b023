package trainer

import (
	"runtime"

	"golang.org/x/sync/errgroup"
	blas "gonum.org/v1/gonum/blas/gonum"
)

// chunkRows is the size of a chunk of rows. Sums are taken chunk by chunk and then in the order of the chunks, so they
// are the same at any number of processors.
const chunkRows = 512

// each calls f for every chunk of n rows, on all processors. The chunks must write to disjoint memory.
func each(n int, f func(from, to int)) {
	parallel((n+chunkRows-1)/chunkRows, func(k int) { f(k*chunkRows, min(n, (k+1)*chunkRows)) })
}

// parallel calls f for 0..n−1, on all processors.
func parallel(n int, f func(k int)) {
	if n == 1 {
		f(0)
		return
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for k := range n {
		g.Go(func() error {
			f(k)
			return nil
		})
	}
	_ = g.Wait() // f returns no error
}

// sum adds up width numbers a chunk: f adds those of a chunk to acc, which starts at zero.
func sum(n, width int, f func(acc []float64, from, to int)) []float64 {
	chunks := max(1, (n+chunkRows-1)/chunkRows)
	part := make([]float64, chunks*width)
	each(n, func(from, to int) {
		k := from / chunkRows
		f(part[k*width:(k+1)*width], from, to)
	})
	total := part[:width]
	for k := 1; k < chunks; k++ {
		for o, v := range part[k*width : (k+1)*width] {
			total[o] += v
		}
	}
	return total
}

// axpy adds a·x to y.
func axpy(a float32, x, y []float32) {
	blas.Implementation{}.Saxpy(len(y), a, x, 1, y, 1)
}
