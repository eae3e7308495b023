package speed

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// What the vendor answers with.
const (
	answerBytes  = 1024
	streamChunks = 32
	chunkPause   = 5 * time.Millisecond
	// rushWord in a prompt asks for a stream without pauses.
	rushWord = "without a pause"
	// stamp stands before the time at which a chunk was sent, in nanoseconds; stampDigits is how many digits that has.
	stamp, stampDigits = `"content":"t=`, 19
)

// answerText is the text of a whole answer.
func answerText() string { return strings.Repeat("lorem ipsum ", answerBytes/12+1)[:answerBytes] }

// Vendor is a vendor that makes its answers up, at once or a chunk every few milliseconds. Every chunk says when it was sent,
// so that its way can be measured.
func Vendor(in io.Reader, out io.Writer) error {
	whole := fmt.Appendf(nil, `{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"bench",`+
		`"choices":[{"index":0,"message":{"role":"assistant","content":%q},"logprobs":null,"finish_reason":"stop"}],`+
		`"usage":{"prompt_tokens":20,"completion_tokens":256,"total_tokens":276}}`, answerText())
	return serve(in, out, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client has gone
		}
		if bytes.Contains(body, []byte(`"stream":true`)) {
			pause := chunkPause
			if bytes.Contains(body, []byte(rushWord)) {
				pause = 0
			}
			stream(w, r, pause)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(whole)))
		_, _ = w.Write(whole) // what does not arrive the client misses
	}))
}

func stream(w http.ResponseWriter, r *http.Request, pause time.Duration) {
	const head = `data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":[`
	w.Header().Set("Content-Type", "text/event-stream")
	flusher := http.NewResponseController(w)
	var piece []byte
	next := time.Now()
	for range streamChunks {
		if pause > 0 {
			select {
			case <-time.After(time.Until(next)):
			case <-r.Context().Done():
				return
			}
			next = next.Add(pause)
		}
		piece = append(append(piece[:0], head...), `{"index":0,"delta":{`+stamp...)
		piece = strconv.AppendInt(piece, time.Now().UnixNano(), 10)
		piece = append(piece, " lorem ipsum dolor\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n"...)
		if _, err := w.Write(piece); err != nil {
			return
		}
		_ = flusher.Flush() // the next write would fail too
	}
	piece = append(append(piece[:0], head...), "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n"...)
	piece = append(append(piece, head...), fmt.Sprintf("],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":%d,\"total_tokens\":%d}}\n\n", streamChunks, 20+streamChunks)...)
	_, _ = w.Write(append(piece, "data: [DONE]\n\n"...)) // what does not arrive the client misses
}
