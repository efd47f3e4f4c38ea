//! A thin MQTT connection; the only file that names rumqttc.
