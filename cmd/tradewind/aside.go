package main

import (
	"context"
	"os"
	"runtime"

	"github.com/tradewind-llm/tradewind/serving/aside"
)

// asideCommand is the command of asideCmd.
const asideCommand = "aside"

// asideCmd is the child process of a server.
type asideCmd struct{}

// Run does what the server asks for.
func (*asideCmd) Run(ctx context.Context, m *Main) error {
	return aside.Child(ctx, m.Stdin, m.Stdout, func() { os.Exit(1) })
}

// self is the file of this program. Linux knows the very one that runs, also after another was put in its place.
func self() string {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe"
	}
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	return path
}
