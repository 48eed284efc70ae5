#!/usr/bin/env bash
# What TestSuites needs besides Go and the jars: setup.sh DIR. From package registries only; what is there stays.
#   venv          current Python clients, and pytest
#   venv-old      librdkafka before 2.8, which looks at the versions of Produce to decide on compression (KAFKA-18659)
#   kafka-python  the source archive of kafka-python, with its integration tests
#   node          kafkajs
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: setup.sh DIR" >&2; exit 2; }
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
KAFKA_PYTHON=3.0.12
STAMP=$(sha256sum <"${BASH_SOURCE[0]}")
mkdir -p "$1"; cd "$1"
[ "$(cat stamp 2>/dev/null)" != "$STAMP" ] || exit 0

pip() { local v=$1; shift; "$v/bin/pip" install -q --disable-pip-version-check "$@"; }
rm -rf venv venv-old kafka-python node
python3 -m venv venv
pip venv "kafka-python==$KAFKA_PYTHON" confluent-kafka==2.16.1 aiokafka==0.14.0 \
  pytest==9.2.0 pytest-mock==3.17.0 pytest-timeout==2.4.0 lz4==4.4.5 zstandard==0.25.0 python-snappy==0.7.3 crc32c==2.9.post0
python3 -m venv venv-old
pip venv-old confluent-kafka==2.6.1

venv/bin/pip download -q --disable-pip-version-check --no-deps --no-binary :all: -d . "kafka-python==$KAFKA_PYTHON"
mkdir kafka-python
tar xzf kafka_python-$KAFKA_PYTHON.tar.gz -C kafka-python --strip-components=1
rm kafka_python-$KAFKA_PYTHON.tar.gz
# The archive leaves out two files that its tests import.
touch kafka-python/test/__init__.py
cp "$HERE/kafka_python_service.py" kafka-python/test/service.py

mkdir node
(cd node && npm init -y >/dev/null && npm install --silent --no-audit --no-fund kafkajs@2.2.4 kafkajs-snappy@1.1.0)
echo "$STAMP" >stamp
