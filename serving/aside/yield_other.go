//go:build !linux

package aside

import "golang.org/x/sys/unix"

// yield gives a process the lowest priority. A child in haste is better than none.
func yield(pid int) { _ = unix.Setpriority(unix.PRIO_PROCESS, pid, 19) }
