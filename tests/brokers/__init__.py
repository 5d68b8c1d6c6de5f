"""Real brokers for tests and for people: Apache Kafka and RabbitMQ, each a process of its own on loopback."""
