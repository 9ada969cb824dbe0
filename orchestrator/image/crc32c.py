"""CRC-32C (Castagnoli), which VHDX and ext4 use."""


def crc32c(data: bytes) -> int:
    """CRC-32C (RFC 3720 appendix B.4): polynomial 0x1EDC6F41, reflected."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
