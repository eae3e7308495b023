package ledger

// expiryHeap orders open holds by the time at which they expire.
type expiryHeap []*hold

func (e expiryHeap) Len() int           { return len(e) }
func (e expiryHeap) Less(i, j int) bool { return e[i].expires.Before(e[j].expires) }
func (e expiryHeap) Swap(i, j int) {
	e[i], e[j] = e[j], e[i]
	e[i].index, e[j].index = i, j
}

func (e *expiryHeap) Push(x any) {
	h := x.(*hold)
	h.index = len(*e)
	*e = append(*e, h)
}

func (e *expiryHeap) Pop() any {
	old := *e
	last := len(old) - 1
	h := old[last]
	old[last] = nil
	*e = old[:last]
	return h
}

// closedRing remembers the last ids that were ended.
type closedRing struct {
	max  int
	ids  map[HoldID]struct{}
	ring []HoldID
	next int
}

func (c *closedRing) has(id HoldID) bool {
	_, found := c.ids[id]
	return found
}

func (c *closedRing) add(id HoldID) {
	c.ids[id] = struct{}{}
	if len(c.ring) < c.max {
		c.ring = append(c.ring, id)
		return
	}
	delete(c.ids, c.ring[c.next])
	c.ring[c.next] = id
	c.next = (c.next + 1) % c.max
}

// take and put keep ended holds for the next ones; there are never more than were open at once.
func (m *Memory) take() *hold {
	h := m.free
	if h == nil {
		return &hold{}
	}
	m.free, h.next = h.next, nil
	return h
}

func (m *Memory) put(h *hold) {
	*h = hold{next: m.free}
	m.free = h
}
