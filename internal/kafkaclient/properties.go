package kafkaclient

import (
	"fmt"
	"unicode/utf8"
)

// ZookeeperReason says why the properties of Flume's old consumers have no effect.
const ZookeeperReason = "brokers and offsets are not read from ZooKeeper: set kafka.bootstrap.servers, and kafka.consumer.auto.offset.reset for the first start of the group"

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
