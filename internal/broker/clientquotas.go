package broker

import (
	"encoding/json"
	"log/slog"
	"maps"
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// clientQuotas are limits on what clients may send and be sent (KIP-13,
// KIP-546), set by AlterClientQuotas and kept in quotas.json.
//
// A client may use ten seconds of its rate at once, as with Kafka's default
// windows. One that has used more is not read from until its rate has caught
// up (KIP-219). Clients of one client id share a rate; those under a quota of
// a user alone share that.
type clientQuotas struct {
	path   string
	cfg    *Config
	logger *slog.Logger

	// rates are the quotas that concern the user of all connections, nil if
	// there are none: then nothing is counted.
	rates atomic.Pointer[[quotaKinds]quotaRates]

	mu     sync.Mutex
	stored []storedQuota
	used   map[quotaUse]*quotaBucket
	sweep  int // when used has as many elements it is cleared of full buckets
}

// storedQuotas is quotas.json.
type storedQuotas struct {
	Quotas []storedQuota `json:"quotas"`
}

type storedQuota struct {
	Entity quotaEntity        `json:"entity"`
	Values map[string]float64 `json:"values"`
}

// quotaEntity is who has a quota: names by entity type, nil for the default.
type quotaEntity map[string]*string

const (
	quotaUser   = "user"
	quotaClient = "client-id"
	quotaIP     = "ip"
)

// quotaAnonymous is the user of a connection without authentication.
const quotaAnonymous = "ANONYMOUS"

// quotaKind is what a quota counts.
type quotaKind int

const (
	quotaProduce quotaKind = iota // bytes of Produce requests
	quotaConsume                  // bytes of records in Fetch responses
	quotaKinds
)

func (k quotaKind) key() string {
	return [quotaKinds]string{"producer_byte_rate", "consumer_byte_rate"}[k]
}

// quotaRates are the quotas of one kind, in bytes per second; 0 for none.
type quotaRates struct {
	userClient    map[string]float64 // of the user with a client id
	userAnyClient float64            // of the user with every other
	user          float64            // of the user, all client ids together
	client        map[string]float64 // of a client id
	anyClient     float64            // of every other
}

// find returns the rate for a client id, and whether all client ids share it.
// The order is Apache Kafka's. A default user's quotas come after the user's
// own, and are put into the same fields when there are none of those.
func (r *quotaRates) find(clientID string) (rate float64, shared bool) {
	if v, ok := r.userClient[clientID]; ok {
		return v, false
	}
	switch {
	case r.userAnyClient > 0:
		return r.userAnyClient, false
	case r.user > 0:
		return r.user, true
	}
	if v, ok := r.client[clientID]; ok {
		return v, false
	}
	return r.anyClient, false
}

// quotaUse names a bucket. The client id is empty when all of them share it.
type quotaUse struct {
	kind     quotaKind
	clientID string
	shared   bool
}

// quotaBucket is what a client may still use, in bytes; below zero it has used
// too much.
type quotaBucket struct {
	rate, left float64
	at         time.Time
}

// quotaBurst is for how long a rate may be saved up: Kafka's windows, ten
// whole ones of a second (quota.window.num, quota.window.size.seconds).
const quotaBurst = 10 * time.Second

// take uses n bytes and returns for how long the client has to wait.
func (q *quotaBucket) take(n int64, rate float64, now time.Time) time.Duration {
	full := rate * quotaBurst.Seconds()
	if q.rate != rate { // new or changed: begin anew
		q.rate, q.left, q.at = rate, full, now
	}
	q.left = min(q.left+rate*now.Sub(q.at).Seconds(), full) - float64(n)
	q.at = now
	if q.left >= 0 {
		return 0
	}
	// Whole milliseconds, as the client is told; what it is told has an int32.
	ms := math.Ceil(-q.left / rate * 1000)
	return time.Duration(min(ms, math.MaxInt32)) * time.Millisecond
}

// full says that the bucket may be forgotten.
func (q *quotaBucket) full(now time.Time) bool {
	return q.left+q.rate*now.Sub(q.at).Seconds() >= q.rate*quotaBurst.Seconds()
}

const (
	maxQuotas       = 10_000 // entities with quotas
	minQuotaSweep   = 1_000  // buckets before the first clearing
	maxQuotaNameLen = 1 << 10
)

func openClientQuotas(path string, cfg *Config) (*clientQuotas, error) {
	var st storedQuotas
	if _, err := readJSON(path, &st); err != nil {
		return nil, err
	}
	q := &clientQuotas{path: path, cfg: cfg, logger: cfg.Logger, stored: st.Quotas, used: map[quotaUse]*quotaBucket{}, sweep: minQuotaSweep}
	q.rates.Store(ratesOf(q.stored))
	return q, nil
}

// ratesOf sorts quotas by how they are looked up; nil if none concerns the
// connections here.
func ratesOf(stored []storedQuota) *[quotaKinds]quotaRates {
	var all [quotaKinds]quotaRates
	found := false
	for kind := range all {
		own, def := quotaRates{userClient: map[string]float64{}, client: map[string]float64{}}, quotaRates{userClient: map[string]float64{}}
		for _, s := range stored {
			v, ok := s.Values[quotaKind(kind).key()]
			if !ok {
				continue
			}
			user, hasUser := s.Entity[quotaUser]
			client, hasClient := s.Entity[quotaClient]
			if hasUser && user != nil && *user != quotaAnonymous {
				continue // nobody here is that
			}
			r := &own
			if hasUser && user == nil {
				r = &def
			}
			switch {
			case hasUser && hasClient && client != nil:
				r.userClient[*client] = v
			case hasUser && hasClient:
				r.userAnyClient = v
			case hasUser:
				r.user = v
			case hasClient && client != nil:
				r.client[*client] = v
			case hasClient:
				r.anyClient = v
			default:
				continue
			}
			found = true
		}
		if own.userAnyClient == 0 && own.user == 0 {
			for c, v := range def.userClient {
				if _, ok := own.userClient[c]; !ok {
					own.userClient[c] = v
				}
			}
			own.userAnyClient, own.user = def.userAnyClient, def.user
		}
		all[kind] = own
	}
	if !found {
		return nil
	}
	return &all
}

// any says whether anything is counted at all.
func (q *clientQuotas) any() bool { return q.rates.Load() != nil }

// charge counts n bytes for a client and returns for how long it is not to be
// read from.
func (q *clientQuotas) charge(kind quotaKind, clientID string, n int64) time.Duration {
	all := q.rates.Load()
	if all == nil {
		return 0
	}
	rate, shared := all[kind].find(clientID)
	if rate == 0 {
		return 0
	}
	use := quotaUse{kind: kind, shared: shared}
	if !shared {
		use.clientID = clientID
	}
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.used[use]
	if b == nil {
		if len(q.used) >= q.sweep {
			maps.DeleteFunc(q.used, func(_ quotaUse, b *quotaBucket) bool { return b.full(now) })
			q.sweep = max(minQuotaSweep, 2*len(q.used))
		}
		b = &quotaBucket{}
		q.used[use] = b
	}
	return b.take(n, rate, now)
}

// alter changes the quotas of an entity.
func (q *clientQuotas) alter(re *kmsg.AlterClientQuotasRequestEntry, dryRun bool) error {
	entity, err := quotaEntityOf(re)
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.IndexFunc(q.stored, func(s storedQuota) bool { return s.Entity.equal(entity) })
	s := storedQuota{Entity: entity, Values: map[string]float64{}}
	if i >= 0 {
		maps.Copy(s.Values, q.stored[i].Values)
	}
	seen := map[string]bool{}
	for _, op := range re.Ops {
		if seen[op.Key] {
			return apiErrorf(kerr.InvalidRequest, "Duplicate quota key %s not updating quota for this entity", op.Key)
		}
		seen[op.Key] = true
		if op.Remove {
			delete(s.Values, op.Key)
			continue
		}
		if err := checkQuota(entity, op.Key, op.Value); err != nil {
			return err
		}
		s.Values[op.Key] = op.Value
	}
	next := slices.Clone(q.stored)
	switch {
	case i >= 0 && len(s.Values) == 0:
		next = slices.Delete(next, i, i+1)
	case i >= 0:
		next[i] = s
	case len(s.Values) == 0:
		return nil
	case len(next) >= maxQuotas:
		return apiErrorf(kerr.PolicyViolation, "%d entities have quotas, as many as allowed", len(next))
	default:
		next = append(next, s)
	}
	if dryRun {
		return nil
	}
	if err := writeJSON(q.cfg.FS, q.path, storedQuotas{Quotas: next}); err != nil {
		q.logger.Error("client quotas could not be written", "err", err)
		return apiErrorf(kerr.KafkaStorageError, "%v", err)
	}
	q.stored = next
	q.rates.Store(ratesOf(next))
	clear(q.used)
	who, err := json.Marshal(entity)
	if err != nil {
		return err
	}
	q.logger.Info("client quotas changed", "for", string(who), "set", s.Values)
	return nil
}

// quotaEntityOf reads and checks whom a change is for.
func quotaEntityOf(re *kmsg.AlterClientQuotasRequestEntry) (quotaEntity, error) {
	if len(re.Entity) == 0 {
		return nil, apiErrorf(kerr.InvalidRequest, "Invalid empty client quota entity")
	}
	entity := quotaEntity{}
	for _, e := range re.Entity {
		_, twice := entity[e.Type]
		switch {
		case e.Type != quotaUser && e.Type != quotaClient && e.Type != quotaIP:
			return nil, apiErrorf(kerr.InvalidRequest, "Unhandled client quota entity type: %s", e.Type)
		case twice:
			return nil, apiErrorf(kerr.InvalidRequest, "Invalid client quota entity, duplicate entity entry %s", e.Type)
		case e.Name != nil && *e.Name == "":
			return nil, apiErrorf(kerr.InvalidRequest, "Empty %s not supported", e.Type)
		case e.Name != nil && len(*e.Name) > maxQuotaNameLen:
			return nil, apiErrorf(kerr.InvalidRequest, "a name of %d bytes, %d are allowed", len(*e.Name), maxQuotaNameLen)
		}
		entity[e.Type] = e.Name
	}
	if ip, ok := entity[quotaIP]; ok {
		if len(entity) > 1 {
			return nil, apiErrorf(kerr.InvalidRequest, "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId")
		}
		if ip != nil {
			if _, err := netip.ParseAddr(*ip); err != nil {
				return nil, apiErrorf(kerr.InvalidRequest, "%s is not a valid IP or resolvable host.", *ip)
			}
		}
	}
	return entity, nil
}

// checkQuota looks at one value. What would be kept and not enforced is
// refused.
func checkQuota(entity quotaEntity, key string, value float64) error {
	_, ip := entity[quotaIP]
	integer := false
	switch key {
	case "producer_byte_rate", "consumer_byte_rate":
		integer = true
	case "request_percentage", "controller_mutation_rate":
	case "connection_creation_rate":
	default:
		return apiErrorf(kerr.InvalidRequest, "Invalid configuration key %s", key)
	}
	switch {
	case ip != (key == "connection_creation_rate"):
		return apiErrorf(kerr.InvalidRequest, "Invalid configuration key %s", key)
	case !(value > 0):
		return apiErrorf(kerr.InvalidRequest, "Quota %s must be greater than 0", key)
	case !integer:
		return apiErrorf(kerr.UnsupportedVersion, "this broker limits producer_byte_rate and consumer_byte_rate: it would not enforce %s, so that is not set", key)
	case value > math.MaxInt64:
		return apiErrorf(kerr.InvalidRequest, "Proposed value for %s is too large for a LONG.", key)
	case math.Mod(value, 1) > 1e-6:
		return apiErrorf(kerr.InvalidRequest, "%s cannot be a fractional value.", key)
	}
	return nil
}

func (e quotaEntity) equal(other quotaEntity) bool {
	return maps.EqualFunc(e, other, func(a, b *string) bool {
		return a == nil && b == nil || a != nil && b != nil && *a == *b
	})
}

// matches answers whether a DescribeClientQuotas asks for the entity.
func (e quotaEntity) matches(components []kmsg.DescribeClientQuotasRequestComponent, strict bool) bool {
	for _, c := range components {
		name, ok := e[c.EntityType]
		switch {
		case !ok,
			c.MatchType == kmsg.QuotasMatchTypeDefault && name != nil,
			c.MatchType == kmsg.QuotasMatchTypeExact && (name == nil || *name != *c.Match):
			return false
		}
	}
	return !strict || len(e) == len(components)
}

// describe lists the quotas that a request asks for.
func (q *clientQuotas) describe(req *kmsg.DescribeClientQuotasRequest) []kmsg.DescribeClientQuotasResponseEntry {
	q.mu.Lock()
	stored := q.stored // replaced as a whole, never changed
	q.mu.Unlock()
	list := []kmsg.DescribeClientQuotasResponseEntry{}
	for _, s := range stored {
		if !s.Entity.matches(req.Components, req.Strict) {
			continue
		}
		entry := kmsg.NewDescribeClientQuotasResponseEntry()
		for _, typ := range slices.Sorted(maps.Keys(s.Entity)) {
			e := kmsg.NewDescribeClientQuotasResponseEntryEntity()
			e.Type, e.Name = typ, s.Entity[typ]
			entry.Entity = append(entry.Entity, e)
		}
		for _, key := range slices.Sorted(maps.Keys(s.Values)) {
			v := kmsg.NewDescribeClientQuotasResponseEntryValue()
			v.Key, v.Value = key, s.Values[key]
			entry.Values = append(entry.Values, v)
		}
		list = append(list, entry)
	}
	return list
}
