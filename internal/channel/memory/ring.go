package memory

// ring is a double-ended queue that grows by doubling and keeps its size: a
// channel that was full once will be full again.
type ring[T any] struct {
	buf  []T // grows to what was needed once
	head int
	n    int
}

func (r *ring[T]) len() int { return r.n }

// grow makes room for n more. limit bounds the doubling, so that a channel of
// 100,000 events does not keep slots for 131,072 of them when it need not.
func (r *ring[T]) grow(n, limit int) {
	need := r.n + n
	if need <= len(r.buf) {
		return
	}
	size := max(64, 2*len(r.buf))
	for size < need {
		size *= 2
	}
	size = max(min(size, limit), need)
	buf := make([]T, size)
	k := copy(buf, r.buf[r.head:min(r.head+r.n, len(r.buf))])
	copy(buf[k:], r.buf[:r.n-k])
	r.buf, r.head = buf, 0
}

// at is the index in buf of the i-th element; i may be r.n.
func (r *ring[T]) at(i int) int {
	if i += r.head; i >= len(r.buf) {
		i -= len(r.buf)
	}
	return i
}

func (r *ring[T]) push(vs []T, limit int) {
	r.grow(len(vs), limit)
	if len(vs) == 0 {
		return
	}
	k := copy(r.buf[r.at(r.n):], vs)
	copy(r.buf, vs[k:])
	r.n += len(vs)
}

func (r *ring[T]) push1(v T, limit int) {
	r.grow(1, limit)
	r.buf[r.at(r.n)] = v
	r.n++
}

func (r *ring[T]) pushFront(vs []T) {
	if len(vs) == 0 {
		return
	}
	r.grow(len(vs), 1<<62)
	r.head -= len(vs)
	if r.head < 0 {
		r.head += len(r.buf)
	}
	k := copy(r.buf[r.head:], vs)
	copy(r.buf, vs[k:])
	r.n += len(vs)
}

func (r *ring[T]) front() *T { return &r.buf[r.head] }

// drop removes the first element.
func (r *ring[T]) drop() {
	var zero T
	r.buf[r.head] = zero
	r.head = r.at(1)
	r.n--
}

// peek appends the first n elements to dst and leaves them.
func (r *ring[T]) peek(dst []T, n int) []T {
	k := min(n, len(r.buf)-r.head)
	dst = append(dst, r.buf[r.head:r.head+k]...)
	return append(dst, r.buf[:n-k]...)
}

// pop appends the first n elements to dst and removes them.
func (r *ring[T]) pop(dst []T, n int) []T {
	k := min(n, len(r.buf)-r.head)
	dst = append(dst, r.buf[r.head:r.head+k]...)
	clear(r.buf[r.head : r.head+k])
	dst = append(dst, r.buf[:n-k]...)
	clear(r.buf[:n-k])
	r.head = r.at(n)
	r.n -= n
	return dst
}
