package disk_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/datasets/disk"
)

// TestLockIsWaitedFor: who was killed may leave its lock to a child for a moment. Its successor waits for that.
func TestLockIsWaitedFor(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	held, err := disk.OS{}.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = held.Close() })
	next, err := disk.OS{}.Lock(name)
	if err != nil {
		t.Fatalf("the lock was free after 50 ms: %v", err)
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
}
