package aside

import "golang.org/x/sys/unix"

// bestEffort is the lowest I/O priority of its class. The class below comes with the scheduling class, and would have the
// gateway's own fsync wait behind whoever else uses the disk: a file system commits for all at once.
const bestEffort = 2<<13 | 7

// yield puts a process that has just begun, and with it every thread that it will start, behind all others: it runs where
// nobody else would. Where that is not allowed it gets the lowest of the ordinary priorities, which still has its turns. A
// child in haste is better than none.
func yield(pid int) {
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, 1, uintptr(pid), bestEffort)
	attr := unix.SchedAttr{Policy: unix.SCHED_IDLE, Nice: 19}
	if unix.SchedSetAttr(pid, &attr, 0) != nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, pid, 19)
	}
}
