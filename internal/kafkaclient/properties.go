package kafkaclient

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sluice-data/sluice/component"
)

// Zookeeper declares the properties of Flume's first consumers, which kept
// their offsets in ZooKeeper and looked brokers up there. migrate is never true.
func Zookeeper(migrate *bool) []component.Field {
	return []component.Field{
		component.Ignore("zookeeperConnect", "brokers and offsets are not read from ZooKeeper: set kafka.bootstrap.servers; a group with committed offsets in Kafka goes on there, as in Flume, and any other where kafka.consumer.auto.offset.reset says"),
		component.Value("migrateZookeeperOffsets", migrate, "bool", "false", func(s string) (bool, error) {
			b, err := strconv.ParseBool(strings.ToLower(strings.TrimSpace(s)))
			if err == nil && b {
				err = errors.New("a group's offsets cannot be copied from ZooKeeper (/consumers/GROUP/offsets): commit them once with sluice groups reset or kafka-consumer-groups --reset-offsets, and set this to false")
			}
			return false, err
		}).Describe("Only false. Flume's default is true: it copies the offsets of a single topic from ZooKeeper when zookeeperConnect is set and the group has none in Kafka. Consumers of Kafka 0.8 kept them there."),
	}
}

// ValidTopic applies Kafka's rules for names.
func ValidTopic(t string) error {
	ok := len(t) > 0 && len(t) <= 249 && t != "." && t != ".."
	for i := 0; ok && i < len(t); i++ {
		c := t[i]
		ok = c == '.' || c == '_' || c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	}
	if ok {
		return nil
	}
	if !utf8.ValidString(t) || len(t) > 249 {
		return fmt.Errorf("a topic's name of %d bytes is not valid: up to 249 letters, digits, '.', '_' and '-'", len(t))
	}
	return fmt.Errorf("%q is not a valid name of a topic: up to 249 letters, digits, '.', '_' and '-'", t)
}
