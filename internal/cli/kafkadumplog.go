package cli

import (
	"fmt"
	"strings"
)

func kafkaDumpLog(env *Env, tool string, args []string) error {
	const noTopic = "there is no such topic here"
	a, err := parseKafka(env, tool, map[string]kafkaOpt{
		"files": optValue, "print-data-log": optFlag, "deep-iteration": optFlag, "verify-index-only": optFlag, "index-sanity-check": optFlag,
		"offsets-decoder": optFlag, "skip-record-metadata": optFlag, "max-bytes": optValue,
		"key-decoder-class": {value: true, optional: "StringDecoder"}, "value-decoder-class": {value: true, optional: "StringDecoder"},
		"max-message-size":        noEffect(true, "batches of any size that a broker takes are read"),
		"transaction-log-decoder": gone(false, noTopic), "cluster-metadata-decoder": gone(false, noTopic),
		"remote-log-metadata-decoder": gone(false, noTopic), "share-group-state-decoder": gone(false, noTopic),
	}, args, nil)
	if err != nil {
		return err
	}
	if !a.has("files") {
		return usageError(fmt.Errorf("%s: --files FILE,FILE is missing", tool))
	}
	c := dumpCmd{Paths: strings.Split(a.last("files", ""), ","), Deep: a.has("deep-iteration"), Data: a.has("print-data-log"), Offsets: a.has("offsets-decoder"),
		Verify: a.has("verify-index-only"), kafka: true, indexSanity: a.has("index-sanity-check"), skipMetadata: a.has("skip-record-metadata")}
	if c.MaxBytes, err = a.int("max-bytes", 0); err != nil {
		return err
	}
	for option, to := range map[string]*func([]byte) (string, error){"key-decoder-class": &c.decodeKey, "value-decoder-class": &c.decodeValue} {
		if a.has(option) {
			class := strings.TrimSuffix(a.last(option, ""), "Decoder")
			if class = class[strings.LastIndexByte(class, '.')+1:]; class == "Default" {
				class = "ByteArray"
			}
			if *to, err = javaDeserializer(class + "Deserializer"); err != nil {
				return usageError(fmt.Errorf("%s: --%s: %w", tool, option, err))
			}
			c.Data = true
		}
	}
	return c.Run(env)
}
