//go:build !linux

package gate

import (
	"context"
	"errors"
	"io"
)

// commandsRun: see command_linux.go.
const commandsRun = false

func (k *command) run(context.Context, []byte, io.Writer) error {
	return errors.New("commands need Linux")
}
