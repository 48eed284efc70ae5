package sim

// texts are the bodies of the Text and UTF8 sorts. Each starts with something
// other than 14 digits.
var (
	texts = []string{
		"ERROR sensor bus timeout, retrying",
		"WARN: GPS fix lost",
		"# log reopened",
		"2016-01-01 00:00:00,000 INFO modem connected",
		"java.net.SocketTimeoutException: Read timed out",
		"\tat com.example.TelemetryClient.send(TelemetryClient.java:88)",
	}
	koreanTexts = []string{"경고: 센서 응답 없음", "오류 – 통신 재시도", "시스템을 다시 시작합니다"}
)

// garbager puts garbage lines before records, at a share of all lines.
type garbager struct {
	threshold uint64 // of a 32-bit draw
	r         rng
}

func newGarbager(share float64, seed uint64, purpose, day int64) garbager {
	return garbager{threshold: share32(share), r: newRNG(seed, purpose, day)}
}

// before appends the garbage that precedes one record. Each draw below the
// share is a garbage line, so their share among all lines is the one asked
// for.
func (g *garbager) before(b *block, car *[5]byte, now *[14]byte) {
	if g.threshold == 0 {
		return
	}
	for g.r.next()>>32 < g.threshold {
		start := len(b.buf)
		s := Text + Sort(g.r.below(uint32(numSorts-Text)))
		switch s {
		case Text:
			b.buf = append(b.buf, texts[g.r.below(uint32(len(texts)))]...)
			b.buf = append(b.buf, ", car "...)
			b.buf = append(b.buf, car[:]...)
		case UTF8:
			b.buf = append(b.buf, koreanTexts[g.r.below(uint32(len(koreanTexts)))]...)
			b.buf = append(b.buf, ' ')
			b.buf = append(b.buf, car[:]...)
		case Cut:
			b.buf = append(b.buf, now[:1+g.r.below(13)]...)
		case Indented:
			b.buf = append(b.buf, ' ')
			b.buf = append(b.buf, now[:]...)
			b.buf = append(b.buf, ',')
			b.buf = append(b.buf, car[:]...)
			b.buf = append(b.buf, ",80,80,80,80,1,1,1,1,A,A,90"...)
		case Empty:
		}
		b.buf = append(b.buf, '\n')
		b.end(start, s)
	}
}
