package telemetry

import (
	"maps"
	"sync"
	"sync/atomic"
)

// family is a metric's children by their labels. A child that exists is found without a lock and without an allocation, which
// the metric itself does not offer; a new one copies the map, which is rare because labels come from bounded sets.
type family[K comparable, V any] struct {
	make  func(K) V
	known atomic.Pointer[map[K]V]
	mu    sync.Mutex
}

func newFamily[K comparable, V any](child func(K) V) *family[K, V] {
	f := &family[K, V]{make: child}
	f.known.Store(&map[K]V{})
	return f
}

func (f *family[K, V]) of(k K) V {
	if v, ok := (*f.known.Load())[k]; ok {
		return v
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old := *f.known.Load()
	if v, ok := old[k]; ok {
		return v
	}
	next := make(map[K]V, len(old)+1)
	maps.Copy(next, old)
	next[k] = f.make(k)
	f.known.Store(&next)
	return next[k]
}
