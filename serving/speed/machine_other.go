//go:build !linux

package speed

import (
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// cores divide nothing here: no process can be kept to a processor.
type cores struct {
	all       int
	one, rest none
}

type none struct{}

// Count is 0.
func (none) Count() int { return 0 }

func divide() cores { return cores{all: runtime.NumCPU()} }

func (c *cores) start(cmd *exec.Cmd, _ none) error { return cmd.Start() }

func (c *cores) keepTo(none) (undo func()) { return func() {} }

// used is what this process has used.
func used() (u usage, err error) {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		return u, err
	}
	unit := int64(1)
	if runtime.GOOS != "darwin" {
		unit = 1 << 10
	}
	return usage{CPU: time.Duration(r.Utime.Nano() + r.Stime.Nano()), Peak: int64(r.Maxrss) * unit}, nil
}
