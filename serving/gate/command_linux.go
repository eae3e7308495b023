package gate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// commandsRun says that this system can bound a command.
const commandsRun = true

// run starts the command, and when it has ended, or at the deadline, kills whatever is left of its process group. The
// group is killed while its leader has ended and was not waited for: until then nobody else can get its number.
func (k *command) run(ctx context.Context, input []byte, output io.Writer) error {
	cmd := exec.Command(k.argv[0], k.argv[1:]...)
	cmd.Env, cmd.Dir = k.env, k.dir
	cmd.Stdin, cmd.Stdout = bytes.NewReader(input), output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = reapMax
	if err := cmd.Start(); err != nil {
		return errors.New("the command could not be started")
	}
	pid := cmd.Process.Pid
	kill := func() { _ = syscall.Kill(-pid, syscall.SIGKILL) } // that it is gone already is as well
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		kill()
		close(killed)
	})
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	if !stop() {
		<-killed
	}
	kill()
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return fmt.Errorf("the command ended with %s", exit.ProcessState)
	case errors.Is(err, io.ErrShortBuffer):
		return errors.New("the command's output is too long")
	case err != nil:
		return errors.New("the command's output could not be read")
	}
	return nil
}
