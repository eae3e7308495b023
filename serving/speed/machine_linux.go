package speed

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// cores divide a machine: the proxies have one processor, so that they are what is busy, and all else has the rest.
type cores struct {
	all       int
	one, rest unix.CPUSet
}

// divide gives the last of the processors to the proxies. With one there is nothing to divide.
func divide() (c cores) {
	var mine unix.CPUSet
	if unix.SchedGetaffinity(0, &mine) != nil || mine.Count() < 2 {
		return cores{all: runtime.NumCPU()}
	}
	c.all, c.rest = mine.Count(), mine
	for i := range len(mine) * strconv.IntSize {
		if mine.IsSet(i) {
			c.one.Zero()
			c.one.Set(i)
		}
	}
	for i := range len(mine) * strconv.IntSize {
		if c.one.IsSet(i) {
			c.rest.Clear(i)
		}
	}
	return c
}

// start starts a process on its processors, which a child has from the thread that starts it.
func (c *cores) start(cmd *exec.Cmd, on unix.CPUSet) error {
	if on.Count() == 0 {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var mine unix.CPUSet
	if unix.SchedGetaffinity(0, &mine) == nil && unix.SchedSetaffinity(0, &on) == nil {
		defer func() { _ = unix.SchedSetaffinity(0, &mine) }()
	}
	return cmd.Start()
}

// keepTo keeps this process to some processors until the function that it returns is called.
func (c *cores) keepTo(set unix.CPUSet) (undo func()) {
	if set.Count() == 0 {
		return func() {}
	}
	var mine unix.CPUSet
	_ = unix.SchedGetaffinity(0, &mine) // divide has asked the same
	threads := func(set *unix.CPUSet) {
		all, _ := os.ReadDir("/proc/self/task") // what is not kept there costs only precision
		for _, t := range all {
			if id, err := strconv.Atoi(t.Name()); err == nil {
				_ = unix.SchedSetaffinity(id, set)
			}
		}
	}
	threads(&set)
	return func() { threads(&mine) }
}

// used is what this process has used. The peak that getrusage knows begins with that of the process which started this
// one, so it comes from elsewhere.
func used() (u usage, err error) {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		return u, err
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return u, err
	}
	if _, rest, ok := bytes.Cut(status, []byte("VmHWM:")); ok {
		line, _, _ := bytes.Cut(rest, []byte(" kB"))
		kilobytes, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 10, 64)
		if err != nil {
			return u, err
		}
		u.Peak = kilobytes << 10
	}
	u.CPU = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	return u, nil
}
