/* error_list.h - X(ENUM suffix, name, sentence), in the order of enum mos_error_reason. */
X(NONE, "none", "no error is at hand")
X(OUT_OF_WINDOW, "out_of_window", "the segment starts beyond the receiver's window; its receiver discards it")
X(ACK_OUT_OF_WINDOW, "ack_out_of_window", "the segment acknowledges what was never sent, or is far too old")
X(RST_OUT_OF_WINDOW, "rst_out_of_window", "the RST is not in the receiver's window; the connection goes on")
X(SYN_IN_WINDOW, "syn_in_window", "a SYN with another ISN on an established connection; the connection goes on")
X(ALIVE_AFTER_RST, "alive_after_rst", "data or an acknowledgement came after the RST that ended the flow")
X(BUFFER_OVERRUN, "buffer_overrun", "unread bytes are about to be given up: more than rmem_size are waiting")
X(HOLE_SKIPPED, "hole_skipped",
  "bytes that the receiver acknowledged were never captured; the stream goes on behind them")
X(CONFLICTING_OVERLAP, "conflicting_overlap", "bytes that are still stored were sent again with other values")
X(TABLE_FULL, "table_full", "a connection was not opened: max_flows is reached")
X(NO_MEMORY, "no_memory", "memory is out, or max_stream_bytes is reached; bytes were given up")
X(OLD_TIMESTAMP, "old_timestamp", "the segment's timestamp is older than the last one (PAWS); its receiver discards it")
X(DATA_BEYOND_FIN, "data_beyond_fin", "data or a second FIN at a place where the stream had ended")
X(RANGES_FULL, "ranges_full", "max_ranges is reached: the oldest hole was given up")
X(BAD_OPTIONS, "bad_options",
  "the TCP options are malformed, or carry an MD5 signature that the SYN did not announce; hosts differ in what they do")
X(SHORT_FRAME, "short_frame",
  "the frame is shorter than its IP packet, and not cut by the capture; its receiver discards it")
X(URGENT_DATA, "urgent_data", "the segment marks an urgent byte, which its receiver may take out of the stream")
X(NO_ACK_FLAG, "no_ack_flag", "a segment without SYN, RST or ACK; its receiver discards it")
