// Tiled matrix-multiplication engine: TH banks of TO dot products of TI multipliers.
//
// Computes `batch` independent products (m x k)(k x n) of signed W-bit operands. Loop nest, one operand read a cycle:
//   for each group of TH products     (one product a bank)
//     for each tile of TO columns
//       for each tile of TI inputs    (weights change here; they are double buffered, so at no cost)
//         for each of m rows
// With `split` the banks share one product instead: they see the same activations and hold TO columns each, so that
// a step covers TH*TO columns and a group is one product.
//
// The on-chip memories are outside. Edge tiles need nothing here: the memories hold zeros beyond k, n and batch.
// Operand memories answer in the cycle of the address, and the operand registers below are the read registers of
// block RAM. The accumulator memory is an ordinary block RAM: data come one cycle after the address, and a word read
// in the cycle in which it is written is not defined. It has two pages, used by alternate tiles of columns, so that
// a finished page is drained (one row a cycle, by whoever writes the result to memory) while the other fills.
//
// Dimensions must stay put from `start` to `done`. `done` rises with the last accumulator write in the memory.
module gemm_engine #(
    parameter int TI   = 4,   // inputs of a dot product
    parameter int TO   = 4,   // dot products of a bank
    parameter int TH   = 2,   // banks
    parameter int W    = 8,   // bits of an operand
    parameter int ACC  = 32,  // bits of an accumulator; it wraps
    parameter int DIM  = 16,  // bits of a dimension
    parameter int ADDR = 24   // bits of an operand address
) (
    input  logic                   clk,
    input  logic                   rst,
    input  logic                   start,
    input  logic                   split,
    input  logic [DIM-1:0]         batch,
    input  logic [DIM-1:0]         m,
    input  logic [DIM-1:0]         k,
    input  logic [DIM-1:0]         n,
    output logic                   done,

    output logic                   activation_read,
    output logic [ADDR-1:0]        activation_address,
    input  logic [TH*TI*W-1:0]     activation_data,
    output logic                   weight_read,
    output logic [ADDR-1:0]        weight_address,
    input  logic [TH*TO*TI*W-1:0]  weight_data,

    output logic                   sum_read,
    output logic                   sum_read_page,
    output logic [DIM-1:0]         sum_read_row,
    input  logic [TH*TO*ACC-1:0]   sum_read_data,
    output logic                   sum_write,
    output logic                   sum_write_page,
    output logic [DIM-1:0]         sum_write_row,
    output logic [TH*TO*ACC-1:0]   sum_write_data,
    output logic                   tile_done  // sum_write_page is complete with this write
);
  localparam int STAGES = $clog2(TI);  // of the adder tree
  localparam int DELAY = 2 + STAGES;   // operand register, multiplier, tree: from operand read to accumulation

  // ---- Controller: four nested counters. They step by a tile, so that no division is needed for the edge tiles.
  logic running, page;
  logic [DIM-1:0] row, input_at, column_at, product_at;
  logic [ADDR-1:0] group_address;  // of the first activation of the group, to which each tile of columns returns
  logic [DIM:0] column_step, product_step;
  logic last_row, last_input, last_column, last_product;

  assign column_step  = split ? (DIM+1)'(TH * TO) : (DIM+1)'(TO);
  assign product_step = split ? (DIM+1)'(1) : (DIM+1)'(TH);
  assign last_row     = {1'b0, row} + 1'b1 >= {1'b0, m};
  assign last_input   = {1'b0, input_at} + (DIM+1)'(TI) >= {1'b0, k};
  assign last_column  = {1'b0, column_at} + column_step >= {1'b0, n};
  assign last_product = {1'b0, product_at} + product_step >= {1'b0, batch};

  wire tile_end  = last_row & last_input;
  wire group_end = tile_end & last_column;
  wire all_end   = group_end & last_product;

  always_ff @(posedge clk) begin
    if (rst) begin
      running <= 1'b0;
    end else if (!running) begin
      running            <= start;
      page               <= 1'b0;
      row                <= '0;
      input_at           <= '0;
      column_at          <= '0;
      product_at         <= '0;
      activation_address <= '0;
      group_address      <= '0;
      weight_address     <= '0;
    end else begin
      running <= !all_end;
      row     <= last_row ? '0 : row + 1'b1;
      if (last_row) begin
        input_at       <= last_input ? '0 : input_at + DIM'(TI);
        weight_address <= weight_address + 1'b1;
      end
      if (tile_end) begin
        column_at <= last_column ? '0 : column_at + column_step[DIM-1:0];
        page      <= !page;
      end
      if (group_end) begin
        product_at    <= product_at + product_step[DIM-1:0];
        group_address <= activation_address + 1'b1;
      end
      // Rows, then input tiles lie one after the other; the next tile of columns reads the same ones again.
      activation_address <= tile_end & !last_column ? group_address : activation_address + 1'b1;
    end
  end

  assign activation_read = running;
  assign weight_read     = running & (row == '0);

  // ---- What the accumulators must know about a sum travels with it through the pipeline.
  logic [DELAY:1] valid;
  logic [DIM+3:0] tag[1:DELAY];  // {all_end, tile_end, first input tile, page, row}
  logic accumulate, finish, overwrite;

  always_ff @(posedge clk) begin
    valid <= rst ? '0 : {valid[DELAY-1:1], running};
    tag[1] <= {all_end, tile_end, input_at == '0, page, row};
    for (int stage = 2; stage <= DELAY; stage++) tag[stage] <= tag[stage-1];
  end

  assign sum_read = valid[DELAY-1];
  assign {sum_read_page, sum_read_row} = tag[DELAY-1][DIM:0];
  assign accumulate = valid[DELAY];
  assign {overwrite, sum_write_page, sum_write_row} = tag[DELAY][DIM+1:0];
  assign sum_write = accumulate;
  assign tile_done = accumulate & tag[DELAY][DIM+2];
  assign finish = accumulate & tag[DELAY][DIM+3];

  always_ff @(posedge clk) begin
    if (rst | start) done <= 1'b0;
    else if (finish) done <= 1'b1;
  end

  // The memory cannot give what was written one cycle ago (a read started in the cycle of the write): with m = 1
  // that is every sum. It is kept at the adder instead.
  logic recent;
  always_ff @(posedge clk)
    recent <= sum_write & ({sum_write_page, sum_write_row} == {sum_read_page, sum_read_row});

  // ---- Datapath.
  for (genvar h = 0; h < TH; h++) begin : bank
    logic [TI*W-1:0] activation;
    always_ff @(posedge clk) if (activation_read) activation <= activation_data[h*TI*W+:TI*W];

    for (genvar o = 0; o < TO; o++) begin : column
      localparam int AT = h * TO + o;
      logic [TI*W-1:0] weight;
      always_ff @(posedge clk) if (weight_read) weight <= weight_data[AT*TI*W+:TI*W];

      logic signed [ACC-1:0] sum, kept, total;
      dot_product #(.TI(TI), .W(W), .ACC(ACC)) dot (.clk, .activation, .weight, .sum);

      assign total = sum + (overwrite ? '0 : recent ? kept : $signed(sum_read_data[AT*ACC+:ACC]));
      assign sum_write_data[AT*ACC+:ACC] = total;
      always_ff @(posedge clk) kept <= total;
    end
  end
endmodule

// Dot product of TI pairs, a new one each cycle: registered multipliers, then a tree of ceil(log2 TI) registered adders
// (an odd node passes through a register). Nodes are as wide as their values, or as the accumulator.
module dot_product #(
    parameter int TI  = 4,
    parameter int W   = 8,
    parameter int ACC = 32
) (
    input  logic                  clk,
    input  logic [TI*W-1:0]       activation,
    input  logic [TI*W-1:0]       weight,
    output logic signed [ACC-1:0] sum
);
  localparam int STAGES = $clog2(TI);

  for (genvar s = 0; s <= STAGES; s++) begin : level
    localparam int NODES = (TI + (1 << s) - 1) >> s;
    localparam int BITS = 2 * W + s < ACC ? 2 * W + s : ACC;
    logic [NODES*BITS-1:0] node;

    for (genvar i = 0; i < NODES; i++) begin : each
      logic signed [BITS-1:0] value;
      if (s == 0) begin : product
        wire signed [W-1:0] a = activation[i*W+:W];
        wire signed [W-1:0] b = weight[i*W+:W];
        always_ff @(posedge clk) value <= a * b;
      end else begin : add
        localparam int BELOW = 2 * W + s - 1 < ACC ? 2 * W + s - 1 : ACC;
        localparam bit PAIR = (2 * i + 1) << (s - 1) < TI;
        wire signed [BELOW-1:0] left = level[s-1].node[2*i*BELOW+:BELOW];
        if (PAIR) begin : pair
          wire signed [BELOW-1:0] right = level[s-1].node[(2*i+1)*BELOW+:BELOW];
          always_ff @(posedge clk) value <= BITS'(left) + BITS'(right);
        end else begin : single
          always_ff @(posedge clk) value <= BITS'(left);
        end
      end
      assign node[i*BITS+:BITS] = value;
    end
  end

  wire signed [(2*W+STAGES < ACC ? 2*W+STAGES : ACC)-1:0] root = level[STAGES].node;
  assign sum = ACC'(root);
endmodule
