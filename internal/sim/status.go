package sim

const statusHeading = "SmartCar Status Information,CarNum,TireFL,TireFR,TireBL,TireBR,LightFL,LightFR,LightBL,LightBR,EngineInfo,BreakInfo,BatteryInfo\n"

// carNumbers draws the fleet: a random letter and the four-digit index.
func carNumbers(c Config) [][5]byte {
	r := newRNG(c.Seed, purposeCars, 0)
	cars := make([][5]byte, c.Cars)
	for i := range cars {
		n := i + 1
		cars[i] = [5]byte{byte('A' + r.below(26)), byte('0' + n/1000), byte('0' + n/100%10), byte('0' + n/10%10), byte('0' + n%10)}
	}
	return cars
}

// Weights of the status fields as limits of a 32-bit draw.
var (
	below80       = share32(0.80)
	below90       = share32(0.90)
	belowFailure  = share32(0.999998)             // what is above fails: 0.0002 %
	lightFailures = uint64(4) * share32(0.000002) // one draw for the four lights
)

const all32 = 1 << 32

// carStatus is a car's failures of the day; 255 and false mean none. A failed
// part stays as it is until midnight.
type carStatus struct {
	tire    [4]uint8
	light   [4]uint8 // '1' or '2'
	engine  bool
	brake   bool
	battery uint8
}

// statusGen generates the status log tick by tick.
type statusGen struct {
	cfg   Config
	ids   [][5]byte
	cars  []carStatus
	r     rng
	g     garbager
	now   stamp
	day   int64 // of the state above
	fresh bool  // the next tick opens a file and writes the headings
	at    int64 // second of the next tick
}

func newStatusGen(c Config) *statusGen {
	s := &statusGen{cfg: c, ids: carNumbers(c), cars: make([]carStatus, c.Cars)}
	from := c.clockStart()
	if c.Days > 0 {
		from, _ = c.start() // validated
		from -= from % secondsPerDay
	}
	s.at = ceilTo(from, StatusStep)
	s.openDay()
	return s
}

func (s *statusGen) openDay() {
	s.day = s.at / secondsPerDay
	s.fresh = true
	s.r = newRNG(s.cfg.Seed, purposeStatus, s.day)
	s.g = newGarbager(s.cfg.Garbage, s.cfg.Seed, purposeStatusGarbage, s.day)
	for i := range s.cars {
		s.cars[i] = carStatus{tire: [4]uint8{255, 255, 255, 255}, light: [4]uint8{'1', '1', '1', '1'}, battery: 255}
	}
}

// tick appends the records of all cars at the second s.at and moves on to the
// next one. The first tick of a day's file also writes a heading per car.
func (s *statusGen) tick(b *block) {
	s.now.set(s.at)
	for i := range s.cars {
		if s.fresh {
			start := len(b.buf)
			b.buf = append(b.buf, statusHeading...)
			b.end(start, Heading)
		}
		s.g.before(b, &s.ids[i], &s.now.text)
		s.record(b, &s.ids[i], &s.cars[i])
	}
	s.fresh = false
	s.at += StatusStep
	if day := s.at / secondsPerDay; day != s.day {
		// After the last whole day the running clock begins, perhaps later
		// than midnight.
		if from := ceilTo(s.cfg.clockStart(), StatusStep); s.cfg.Days > 0 && s.at < from && day == from/secondsPerDay {
			s.at = from
		}
		s.openDay()
	}
}

func (s *statusGen) record(b *block, id *[5]byte, c *carStatus) {
	buf, n := b.room(64)
	start := n
	n += copy(buf[n:], s.now.text[:])
	buf[n] = ','
	n++
	n += copy(buf[n:], id[:])

	d01, d23 := s.r.next(), s.r.next()
	draws := [4]uint64{d01 >> 32, d01 & (all32 - 1), d23 >> 32, d23 & (all32 - 1)}
	for i := range c.tire {
		v := c.tire[i]
		if v == 255 {
			v = tire(draws[i])
			if v <= 69 {
				c.tire[i] = v
			}
		}
		n = putNum(buf, n, v)
	}

	d := s.r.next()
	if u := d >> 32; u < lightFailures {
		c.light[u*4/lightFailures] = '2'
	}
	*(*[8]byte)(buf[n:]) = [8]byte{',', c.light[0], ',', c.light[1], ',', c.light[2], ',', c.light[3]}
	n += 8

	buf[n], buf[n+1] = ',', grade(d&(all32-1), &c.engine)
	d = s.r.next()
	buf[n+2], buf[n+3] = ',', grade(d>>32, &c.brake)
	n += 4

	v := c.battery
	if v == 255 {
		v = battery(d & (all32 - 1))
		if v <= 49 {
			c.battery = v
		}
	}
	n = putNum(buf, n, v)
	buf[n] = '\n'
	b.buf = buf[:n+1]
	b.end(start, Record)
}

// scale spreads u of [lo, hi) evenly over count values.
func scale(u, lo, hi, count uint64) uint8 { return uint8((u - lo) * count / (hi - lo)) }

// tire: 80-100 in 80 %, 70-79 in 19.9998 %, 0-69 in 0.0002 %.
func tire(u uint64) uint8 {
	switch {
	case u < below80:
		return 80 + scale(u, 0, below80, 21)
	case u < belowFailure:
		return 70 + scale(u, below80, belowFailure, 10)
	}
	return scale(u, belowFailure, all32, 70)
}

// battery: 80-100 in 90 %, 50-79 in 9.9998 %, 0-49 in 0.0002 %.
func battery(u uint64) uint8 {
	switch {
	case u < below90:
		return 80 + scale(u, 0, below90, 21)
	case u < belowFailure:
		return 50 + scale(u, below90, belowFailure, 30)
	}
	return scale(u, belowFailure, all32, 50)
}

// grade: A in 80 %, B in 19.9998 %, C in 0.0002 %, and then C for good.
func grade(u uint64, failed *bool) byte {
	switch {
	case *failed:
		return 'C'
	case u < below80:
		return 'A'
	case u < belowFailure:
		return 'B'
	}
	*failed = true
	return 'C'
}
