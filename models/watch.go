package models

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Watching reads one small file. A refused artifact is tried again, because it may have been half copied or the disk
// short of something, but ever more rarely: it can be large.
const (
	watchEvery   = time.Second
	retryAtFirst = time.Second
	retryMax     = time.Minute
)

// WatchOptions say what Watch does. Only Load is required.
type WatchOptions struct {
	// Every is the time between two looks at the pointer; zero is a second.
	Every time.Duration
	// Serving is the artifact in service when watching begins, empty where there is none.
	Serving Digest
	// Load tries a verified artifact and puts it into service, or reports why it does not; then the one before stays.
	Load func(a *Artifact) error
	// Taken, where set, is told of each artifact that was put into service.
	Taken func(d Digest)
	// Refused, where set, is told why what is promoted does not serve: once for a digest and a reason. The digest is
	// empty where the pointer itself cannot be read.
	Refused func(d Digest, err error)
}

// Validate reports what is missing or out of range.
func (o *WatchOptions) Validate() error {
	if o.Load == nil {
		return errors.New("models: WatchOptions.Load is required")
	}
	if o.Every < 0 {
		return fmt.Errorf("models: WatchOptions.Every is %v, want no less than 0", o.Every)
	}
	return nil
}

// Watch follows the promoted pointer until the context ends: a new artifact is read once, verified and given to Load.
// Whatever is wrong with it, the one in service stays and watching goes on. The pointer is polled, because a file
// system's notices do not cross the network file systems on which registries are shared.
func (r *Registry) Watch(ctx context.Context, o WatchOptions) error {
	if err := o.Validate(); err != nil {
		return err
	}
	if o.Every == 0 {
		o.Every = watchEvery
	}
	w := watch{o: o, registry: r, serving: o.Serving}
	tick := time.NewTicker(o.Every)
	defer tick.Stop()
	for {
		w.look(time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// watch is what Watch remembers between two looks. It belongs to one goroutine.
type watch struct {
	o        WatchOptions
	registry *Registry
	serving  Digest
	// refused is the pointer's last trouble: the digest, why, and when to try it again.
	refused struct {
		is     bool
		digest Digest
		reason string
		pause  time.Duration
		again  time.Time
	}
}

// look reads the pointer once and does what it asks for.
func (w *watch) look(now time.Time) {
	d, err := w.registry.Promoted()
	switch {
	case errors.Is(err, ErrNotPromoted) && w.serving == "":
		return // nothing was ever promoted
	case err != nil:
		w.refuse("", err, now)
		return
	case d == w.serving:
		w.refused.is = false
		return
	case w.refused.is && w.refused.digest == d && now.Before(w.refused.again):
		return
	}
	if err := w.take(d); err != nil {
		w.refuse(d, err, now)
		return
	}
	w.serving, w.refused.is = d, false
	if w.o.Taken != nil {
		w.o.Taken(d)
	}
}

func (w *watch) take(d Digest) error {
	a, err := w.registry.open(d)
	if err != nil {
		return err
	}
	return w.o.Load(a)
}

// refuse tells of a trouble that is new and sets the next try of one that is not.
func (w *watch) refuse(d Digest, err error, now time.Time) {
	f, reason := &w.refused, err.Error()
	told := f.is && f.digest == d && f.reason == reason
	if f.is && f.digest == d {
		f.pause = min(2*f.pause, retryMax)
	} else {
		f.pause = retryAtFirst
	}
	f.is, f.digest, f.reason, f.again = true, d, reason, now.Add(f.pause)
	if !told && w.o.Refused != nil {
		w.o.Refused(d, err)
	}
}
